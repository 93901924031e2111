import { Readable, Writable } from "node:stream";
import { type CliIo, InterruptedError } from "../cli/io.ts";
import { runCli } from "../cli/run.ts";

export interface PersonaRun {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface PersonaRunOptions {
  readonly stdin?: string | Uint8Array | Readable;
  /** Whether the streams are terminals, of so many columns. @default no */
  readonly columns?: number;
  readonly env?: Record<string, string>;
  readonly cwd?: string;
  /** Sees stdout and stderr as they are written; what it returns true for interrupts the command. */
  readonly interruptOn?: (written: string) => boolean;
  /** Interrupts the command. */
  readonly interrupt?: AbortController;
}

/** Run one command line in this process. */
export async function persona(argv: readonly string[], options: PersonaRunOptions = {}): Promise<PersonaRun> {
  const { stdin = "", columns, env = {}, cwd = "/nonexistent" } = options;
  const { interrupt = new AbortController() } = options;
  const written = { stdout: "", stderr: "" };
  const sink = (name: keyof typeof written) =>
    Object.assign(
      new Writable({
        decodeStrings: false,
        write(chunk: string, _encoding, done) {
          written[name] += chunk;
          if (options.interruptOn?.(chunk)) interrupt.abort(new InterruptedError("SIGINT"));
          done();
        },
      }),
      columns === undefined ? {} : { isTTY: true, columns },
    );
  const io: CliIo = {
    stdin: Object.assign(stdin instanceof Readable ? stdin : Readable.from([Buffer.from(stdin)]), {
      isTTY: columns !== undefined,
    }),
    stdout: sink("stdout"),
    stderr: sink("stderr"),
    env,
    cwd,
    signal: interrupt.signal,
  };
  const code = await runCli(argv, io);
  return { code, ...written };
}
