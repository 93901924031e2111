import { createInterface } from "node:readline";
import { UsageError } from "./failure.ts";
import type { CliIo } from "./io.ts";

/**
 * Ask a person on the terminal; only "y" and "yes" are a yes, and the end of the input is a no.
 *
 * @throws UsageError CONFIRMATION_NEEDED where there is no terminal to ask on; the signal's reason on an interrupt
 */
export async function confirm(question: string, io: CliIo): Promise<boolean> {
  if (!io.stdin.isTTY || !io.stderr.isTTY) {
    throw new UsageError("CONFIRMATION_NEEDED", "this cannot be undone: give --yes where nobody can be asked");
  }
  io.stderr.write(`${question} [y/N] `);
  io.signal.throwIfAborted();
  const lines = createInterface({ input: io.stdin, terminal: false });
  const stop = () => lines.close();
  io.signal.addEventListener("abort", stop, { once: true });
  try {
    for await (const answer of lines) return /^\s*y(es)?\s*$/i.test(answer);
    io.signal.throwIfAborted();
    // Where the answer would have broken the line.
    io.stderr.write("\n");
    return false;
  } finally {
    io.signal.removeEventListener("abort", stop);
    lines.close();
  }
}
