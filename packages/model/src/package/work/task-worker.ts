import { parentPort } from "node:worker_threads";
import type { ConvertResult } from "./convert-weight.ts";
import type { DigestResult } from "./digest-range.ts";
import { type Task, TaskRunner } from "./task.ts";
import { describeFailure, type TaskFailure } from "./task-error.ts";

/** What a worker says: one `done` or `failed` for each task, any number of `bytes` before it. */
export type WorkerMessage =
  | { readonly kind: "bytes"; readonly bytes: number }
  | { readonly kind: "done"; readonly result: ConvertResult | DigestResult }
  | { readonly kind: "failed"; readonly failure: TaskFailure };

if (parentPort === null) throw new Error("this module runs in a worker thread");
const port = parentPort;
const say = (message: WorkerMessage) => port.postMessage(message);
const runner = new TaskRunner();

// The parent sends the next task after the answer to the one before, and ends the thread when there is none.
port.on("message", (task: Task) => {
  runner
    .run(task, (bytes) => say({ kind: "bytes", bytes }))
    .then((result) => say({ kind: "done", result }))
    .catch((error: unknown) => say({ kind: "failed", failure: describeFailure(error) }));
});
