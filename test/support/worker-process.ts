import { type ChildProcess, spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import { onTestFinished } from "vitest";
import { until } from "./until.ts";

const MAIN = fileURLToPath(new URL("../../services/inference/src/main.ts", import.meta.url));

/** A worker in a process of its own, as it is run; killed when its test ends. */
export interface WorkerProcess {
  readonly child: ChildProcess;
  /** Everything it has written to both outputs so far. */
  output(): string;
  /** Lines of its log so far. */
  log(): Record<string, unknown>[];
  /** Exit code, or the signal that ended it. */
  readonly ended: Promise<number | string | null>;
}

export interface ServingProcess extends WorkerProcess {
  readonly address: string;
  readonly port: number;
  readonly managementPort: number;
}

/**
 * @param flags - by option name as on the command line, without the dashes
 * @param preload - URL of a module that runs in the process before everything else
 */
export function spawnWorker(flags: Readonly<Record<string, string>>, preload?: string): WorkerProcess {
  // One thread: those that share an operator wait for each other, on a busy machine longer than they work.
  const options = { "grpc-port": "0", "management-port": "0", threads: "1", "dev-tls": "false", ...flags };
  const args = Object.entries(options).flatMap(([name, value]) => [`--${name}`, value]);
  // Of the environment only what it needs: PERSONA_* of whoever runs the tests would count as options.
  const before = preload === undefined ? [] : ["--import", preload];
  const child = spawn(process.execPath, [...before, MAIN, ...args], { env: { PATH: process.env["PATH"] } });
  onTestFinished(() => {
    child.kill("SIGKILL");
  });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.on("data", (chunk) => {
      output += chunk;
    });
  }
  return {
    child,
    output: () => output,
    log: () =>
      output.split("\n").flatMap((line) => (line.startsWith("{") && line.endsWith("}") ? [JSON.parse(line)] : [])),
    ended: new Promise((resolve) => {
      child.on("close", (code, signal) => resolve(code ?? signal));
    }),
  };
}

/** @throws Error with its output when it ends instead of serving */
export async function startWorkerProcess(
  flags: Readonly<Record<string, string>>,
  preload?: string,
): Promise<ServingProcess> {
  const worker = spawnWorker(flags, preload);
  let over = false;
  void worker.ended.then(() => {
    over = true;
  });
  const serving = () => worker.log().find(({ msg, address }) => msg === "serving" && address !== undefined);
  await until(() => over || serving() !== undefined, "the worker serves");
  const line = serving();
  if (line === undefined) throw new Error(`the worker ended:\n${worker.output()}`);
  const address = String(line["address"]);
  return {
    ...worker,
    address,
    port: Number(address.split(":")[1]),
    managementPort: Number(line["managementPort"]),
  };
}
