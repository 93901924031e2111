import { type ChildProcess, spawn } from "node:child_process";
import { createInterface } from "node:readline";

const END_WITH_PARENT = new URL("./end-with-parent.ts", import.meta.url).href;

/** A service that does not come up in this time will not: importing the starter model included. Milliseconds. */
const START_TIMEOUT = 120_000;

/** Log lines that are kept to explain an end that nobody asked for. */
const KEPT_LINES = 20;

export interface ServiceProgram {
  /** In messages. */
  readonly name: string;
  /** Path of its main file. */
  readonly main: string;
  /** Options by name as on the command line, without the dashes. */
  readonly flags: Readonly<Record<string, string>>;
  /** Gets every line of its log. */
  readonly onLine?: (line: string) => void;
}

/** A service in a process of its own, as in production. */
export class ServiceProcess implements AsyncDisposable {
  readonly name: string;
  /** Where it serves, `host:port`. */
  readonly address: string;
  readonly managementPort: number;
  readonly pid: number;
  /** Settles when the process is over: its exit code, or the signal that ended it. */
  readonly ended: Promise<number | string>;
  readonly #child: ChildProcess;

  /** @throws Error with the end of its log when it does not come up */
  static async start({ name, main, flags, onLine }: ServiceProgram): Promise<ServiceProcess> {
    const args = Object.entries(flags).flatMap(([flag, value]) => [`--${flag}`, value]);
    // A group of its own: Ctrl-C in a terminal reaches us alone, and we end things in order.
    const child = spawn(process.execPath, ["--import", END_WITH_PARENT, main, ...args], {
      // The last is what the service notices our end by, should we have no time for a word.
      stdio: ["ignore", "pipe", "inherit", "pipe"],
      detached: true,
    });
    child.stdio[3]?.on("error", () => {});
    const ended = new Promise<number | string>((resolve) => {
      child.once("exit", (code, signal) => resolve(code ?? signal ?? 1));
    });
    // Whoever ends in an orderly way without having stopped it takes it along.
    const kill = () => child.kill("SIGKILL");
    process.once("exit", kill);
    void ended.then(() => process.removeListener("exit", kill));
    try {
      return new ServiceProcess(name, child, ended, await untilServing(name, child, ended, onLine));
    } catch (error) {
      kill();
      throw error;
    }
  }

  private constructor(name: string, child: ChildProcess, ended: Promise<number | string>, line: ServingLine) {
    this.name = name;
    this.#child = child;
    this.ended = ended;
    this.address = line.address;
    this.managementPort = line.managementPort;
    this.pid = child.pid as number;
  }

  /** SIGTERM, and wait until it has drained. @returns its exit code, or the signal that ended it */
  async stop(): Promise<number | string> {
    this.#child.kill("SIGTERM");
    return this.ended;
  }

  /** End it as a power cut would. */
  async kill(): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.ended;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }
}

interface ServingLine {
  readonly address: string;
  readonly managementPort: number;
}

/** Where it serves, from its own log line. */
async function untilServing(
  name: string,
  child: ChildProcess,
  ended: Promise<number | string>,
  onLine?: (line: string) => void,
): Promise<ServingLine> {
  const lines: string[] = [];
  return new Promise((resolve, reject) => {
    const fail = (why: string) => reject(new Error(`${name} ${why}:\n${lines.join("\n")}`));
    const timer = setTimeout(() => fail("did not start in time"), START_TIMEOUT);
    void ended.then((code) => {
      clearTimeout(timer);
      fail(`ended with ${code}`);
    });
    // Read on for as long as it runs: a full pipe would stop it.
    createInterface({ input: child.stdout as NodeJS.ReadableStream }).on("line", (line) => {
      onLine?.(line);
      lines.push(line);
      if (lines.length > KEPT_LINES) lines.shift();
      const serving = servingLine(line);
      if (serving === undefined) return;
      clearTimeout(timer);
      resolve(serving);
    });
  });
}

function servingLine(line: string): ServingLine | undefined {
  try {
    const { msg, address, managementPort } = JSON.parse(line) as Record<string, unknown>;
    if (msg !== "serving" || typeof address !== "string") return undefined;
    return { address, managementPort: Number(managementPort) };
  } catch {
    return undefined;
  }
}
