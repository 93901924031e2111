import type { Command } from "commander";
import { type CliIo, type Paint, paintFor, write } from "./io.ts";

/** Options that every command takes; see `program.ts` for their descriptions. */
export interface GlobalOptions {
  address: string;
  registry: string;
  token?: string;
  tokenFile?: string;
  tenant: string;
  dataDir: string;
  tls?: true;
  tlsCa?: string;
  tlsCert?: string;
  tlsKey?: string;
  tlsServerName?: string;
  plaintext?: true;
  /** Milliseconds. */
  timeout?: number;
  color: boolean;
  json?: true;
}

/** What a command runs with: its options, and where it reads and writes. */
export class CommandContext<Options = unknown> {
  readonly io: CliIo;
  readonly options: Options & GlobalOptions;
  /** For stdout. */
  readonly paint: Paint;

  constructor(io: CliIo, command: Command) {
    this.io = io;
    this.options = command.optsWithGlobals<Options & GlobalOptions>();
    this.paint = paintFor(io, io.stdout, this.options.color);
  }

  get json(): boolean {
    return this.options.json === true;
  }

  get signal(): AbortSignal {
    return this.io.signal;
  }

  print(text: string): Promise<void> {
    return write(this.io.stdout, text);
  }

  printLines(lines: readonly string[]): Promise<void> {
    return this.print(lines.map((line) => `${line}\n`).join(""));
  }

  /** One object on one line, for `jq` and its like. */
  printJson(value: unknown): Promise<void> {
    return this.print(`${JSON.stringify(value)}\n`);
  }

  /** A remark on stderr, so that stdout holds the result alone. None with `--json`, where stderr holds an error alone. */
  note(text: string): void {
    if (this.json) return;
    const paint = paintFor(this.io, this.io.stderr, this.options.color);
    this.io.stderr.write(`${paint("dim", text)}\n`);
  }
}
