import type { Readable, Writable } from "node:stream";
import { styleText } from "node:util";

/** What the command line touches of its process, so that tests can give it another one. */
export interface CliIo {
  stdin: Readable & { isTTY?: boolean };
  stdout: Writable & { isTTY?: boolean; columns?: number };
  stderr: Writable & { isTTY?: boolean; columns?: number };
  env: Readonly<Record<string, string | undefined>>;
  cwd: string;
  /** Aborted by the first SIGINT or SIGTERM, with an {@link InterruptedError}, and by a closed pipe. */
  signal: AbortSignal;
}

/** The user, or the system, asked the command to stop. */
export class InterruptedError extends Error {
  override readonly name = "InterruptedError";
  readonly by: "SIGINT" | "SIGTERM" | "SIGPIPE";

  constructor(by: "SIGINT" | "SIGTERM" | "SIGPIPE") {
    super(by === "SIGPIPE" ? "the reader of the output went away" : `stopped by ${by}`);
    this.by = by;
  }
}

/** Column count where the terminal does not say: what a pipe or a log reads well at. */
const DEFAULT_COLUMNS = 80;

/** Narrower than this nothing lays out; a terminal that claims less is treated as this wide. */
const MIN_COLUMNS = 24;

/** Width to lay out for; COLUMNS lets a script say it where there is no terminal. */
export function columnsOf(io: CliIo): number {
  const claimed = io.stdout.columns ?? Number.parseInt(io.env["COLUMNS"] ?? "", 10);
  return Number.isSafeInteger(claimed) && claimed > 0 ? Math.max(MIN_COLUMNS, claimed) : DEFAULT_COLUMNS;
}

/** Waits for a slow reader, so that a long stream never piles up in memory. */
export function write(stream: Writable, text: string): Promise<void> {
  return new Promise((resolve, reject) => {
    if (text === "") resolve();
    else stream.write(text, (error) => (error ? reject(error) : resolve()));
  });
}

type Style = "bold" | "dim" | "red" | "green" | "yellow" | "cyan";

/** Colours what goes to one stream, or leaves it alone. */
export type Paint = (style: Style, text: string) => string;

/**
 * Whether a stream has colours: only on a terminal, never with `--no-color` or NO_COLOR (https://no-color.org).
 *
 * @param allowed - false for `--no-color`
 */
export function coloursOn(io: CliIo, stream: { isTTY?: boolean }, allowed: boolean): boolean {
  return allowed && stream.isTTY === true && !io.env["NO_COLOR"] && io.env["TERM"] !== "dumb";
}

/** Colours for a stream that has them. @param allowed - false for `--no-color` */
export function paintFor(io: CliIo, stream: { isTTY?: boolean }, allowed: boolean): Paint {
  return coloursOn(io, stream, allowed)
    ? (style, text) => styleText(style, text, { validateStream: false })
    : (_style, text) => text;
}
