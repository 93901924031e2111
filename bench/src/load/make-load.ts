import { fork } from "node:child_process";
import { fileURLToPath } from "node:url";
import type { LoadPlan, LoadReport } from "./load-plan.ts";

const CHILD = fileURLToPath(new URL("./load-child.ts", import.meta.url));

/** Over the load's own time, to start and to come to an end. Milliseconds. */
const GRACE = 60_000;

/** Make a load in a process of its own, and wait until it is over. @throws Error when that process fails */
export async function makeLoad(plan: LoadPlan): Promise<LoadReport> {
  const child = fork(CHILD, { stdio: ["ignore", "ignore", "inherit", "ipc"] });
  const kill = () => child.kill("SIGKILL");
  process.once("exit", kill);
  const timer = setTimeout(kill, plan.seconds * 1000 + GRACE);
  try {
    return await new Promise<LoadReport>((resolve, reject) => {
      child.once("message", (report) => resolve(report as LoadReport));
      child.once("error", reject);
      child.once("exit", (code, signal) => reject(new Error(`the load ended early: ${code ?? signal}`)));
      child.send(plan);
    });
  } finally {
    clearTimeout(timer);
    process.removeListener("exit", kill);
  }
}
