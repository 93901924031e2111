import { spawn } from "node:child_process";
import { chmod, mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { onTestFinished } from "vitest";
import { until } from "../../support/until.ts";

const MAIN = fileURLToPath(new URL("../main.ts", import.meta.url));

/** A run that was asked to end and does not is killed. Milliseconds. */
const LONGEST_END = 60_000;

/** `npm run robustness` in a process of its own, with a temporary folder of its own. */
export class StormCommand {
  /** Exit code, or the signal that ended it. */
  readonly ended: Promise<number | string | null>;
  stdout = "";
  stderr = "";
  readonly #folder: string;
  readonly #signal: (name: NodeJS.Signals) => void;

  static async start(...args: readonly string[]): Promise<StormCommand> {
    const folder = await mkdtemp(join(tmpdir(), "persona-e2e-"));
    // For PostgreSQL, which runs as somebody else where we are root.
    await chmod(folder, 0o711);
    const command = new StormCommand(folder, args);
    onTestFinished(async () => {
      command.#signal("SIGTERM");
      const tooLong = setTimeout(() => command.#signal("SIGKILL"), LONGEST_END);
      await command.ended;
      clearTimeout(tooLong);
      await rm(folder, { recursive: true, force: true });
    });
    return command;
  }

  private constructor(folder: string, args: readonly string[]) {
    this.#folder = folder;
    const child = spawn(process.execPath, [MAIN, ...args], {
      env: { PATH: process.env["PATH"], TMPDIR: folder },
      stdio: ["ignore", "pipe", "pipe"],
    });
    this.#signal = (name) => child.kill(name);
    child.stdout.on("data", (chunk) => {
      this.stdout += chunk;
    });
    child.stderr.on("data", (chunk) => {
      this.stderr += chunk;
    });
    this.ended = new Promise((resolve) => {
      child.once("close", (code, signal) => resolve(code ?? signal));
    });
  }

  /** As Ctrl-C does, once it has said something. */
  async interruptAfter(words: string): Promise<void> {
    await until(() => this.stderr.includes(words), `the command says "${words}"`);
    this.#signal("SIGINT");
  }

  /** Files, mounts and processes of the run that are still there. */
  async leftovers(): Promise<string[]> {
    const files = await readdir(this.#folder);
    if (process.platform !== "linux") return files;
    const mounts = (await readFile("/proc/self/mounts", "utf8")).split("\n");
    return [...files, ...[...mounts, ...(await commandLines())].filter((it) => it.includes(this.#folder))];
  }
}

/** Of every process of this machine: those of a run have its folder in theirs. */
async function commandLines(): Promise<string[]> {
  const pids = (await readdir("/proc")).filter((name) => /^[0-9]+$/.test(name));
  // One that ends meanwhile has none.
  return Promise.all(pids.map((pid) => readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "")));
}
