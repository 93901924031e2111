import { UsageError } from "./failure.ts";
import type { CliIo } from "./io.ts";

/** Longest prompt read, bytes: far over any context, far under what a gRPC message may hold. */
const MAX_PROMPT_BYTES = 1 << 20;

/**
 * The prompt of a command: the argument, or what stands on the standard input for "-" and for no argument at all.
 *
 * The last line break of the input is not part of the prompt: `echo` and editors put it there.
 *
 * @throws UsageError when there is none, it is empty, not UTF-8, or too long
 */
export async function readPrompt(argument: string | undefined, io: CliIo): Promise<string> {
  const prompt = argument === undefined || argument === "-" ? await readStdin(argument, io) : argument;
  if (prompt === "") throw new UsageError("PROMPT_MISSING", "the prompt is empty");
  if (Buffer.byteLength(prompt) > MAX_PROMPT_BYTES) {
    throw new UsageError("PROMPT_TOO_LONG", `the prompt is over ${MAX_PROMPT_BYTES} bytes`);
  }
  return prompt;
}

async function readStdin(argument: string | undefined, io: CliIo): Promise<string> {
  if (argument === undefined && io.stdin.isTTY) {
    throw new UsageError(
      "PROMPT_MISSING",
      'no prompt: give it as an argument, or "-" to read it from the standard input',
    );
  }
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of abortable(io)) {
    chunks.push(chunk);
    bytes += chunk.length;
    if (bytes > MAX_PROMPT_BYTES) {
      throw new UsageError("PROMPT_TOO_LONG", `the prompt on the standard input is over ${MAX_PROMPT_BYTES} bytes`);
    }
  }
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(Buffer.concat(chunks)).replace(/\r?\n$/, "");
  } catch {
    throw new UsageError("PROMPT_NOT_UTF8", "the prompt on the standard input is not UTF-8");
  }
}

/** The chunks of the standard input, until its end or an interrupt, which destroys it. */
async function* abortable(io: CliIo): AsyncGenerator<Buffer> {
  io.signal.throwIfAborted();
  const stop = () => io.stdin.destroy();
  io.signal.addEventListener("abort", stop, { once: true });
  try {
    for await (const chunk of io.stdin) yield Buffer.from(chunk);
    io.signal.throwIfAborted();
  } catch (error) {
    io.signal.throwIfAborted();
    throw error;
  } finally {
    io.signal.removeEventListener("abort", stop);
  }
}
