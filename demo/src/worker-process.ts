import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

const MAIN = fileURLToPath(new URL("../../services/inference/src/main.ts", import.meta.url));

/** A worker that does not come up in this time will not. Milliseconds. */
const START_TIMEOUT = 60_000;

/** Log lines that are kept to explain a failed start. */
const KEPT_LINES = 20;

/** A worker in a process of its own, as in production; ended with the demo. */
export class WorkerProcess implements AsyncDisposable {
  readonly address: string;
  readonly #process: ChildProcess;

  static async start(flags: Readonly<Record<string, string>>): Promise<WorkerProcess> {
    const args = Object.entries(flags).flatMap(([name, value]) => [`--${name}`, value]);
    const child = spawn(process.execPath, [MAIN, "--grpc-port", "0", "--management-port", "0", ...args], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    try {
      return new WorkerProcess(child, await servingAddress(child));
    } catch (error) {
      child.kill("SIGKILL");
      throw error;
    }
  }

  private constructor(child: ChildProcess, address: string) {
    this.#process = child;
    this.address = address;
  }

  /** SIGTERM, and wait until it has drained. @returns its exit code */
  async stop(): Promise<number | null> {
    if (this.#process.exitCode !== null || this.#process.signalCode !== null) return this.#process.exitCode;
    const exited = once(this.#process, "exit");
    this.#process.kill("SIGTERM");
    await exited;
    return this.#process.exitCode;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }
}

/** The address from the worker's own log line. */
async function servingAddress(child: ChildProcess): Promise<string> {
  if (child.stdout === null) throw new Error("the worker has no output");
  const lines: string[] = [];
  return new Promise((resolve, reject) => {
    const fail = (why: string) => reject(new Error(`the worker ${why}:\n${lines.join("\n")}`));
    const timer = setTimeout(() => fail("did not start in time"), START_TIMEOUT);
    child.once("exit", (code) => {
      clearTimeout(timer);
      fail(`ended with code ${code}`);
    });
    // Read on for as long as it runs: a full pipe would stop it.
    createInterface({ input: child.stdout as NodeJS.ReadableStream }).on("line", (line) => {
      lines.push(line);
      if (lines.length > KEPT_LINES) lines.shift();
      const address = addressIn(line);
      if (address === undefined) return;
      clearTimeout(timer);
      resolve(address);
    });
  });
}

function addressIn(line: string): string | undefined {
  try {
    const entry = JSON.parse(line) as { msg?: unknown; address?: unknown };
    return entry.msg === "serving" && typeof entry.address === "string" ? entry.address : undefined;
  } catch {
    return undefined;
  }
}
