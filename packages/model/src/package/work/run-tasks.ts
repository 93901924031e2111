import { availableParallelism } from "node:os";
import { Worker } from "node:worker_threads";
import { type Task, type TaskResult, TaskRunner, taskBytes, taskMemory } from "./task.ts";
import { restoreFailure } from "./task-error.ts";
import type { WorkerMessage } from "./task-worker.ts";

const THREADS_FROM_BYTES = 64 * 1024 * 1024;

/** What a thread costs beside its tasks: its heap and its copy of the code. Measured: 23 MB. */
const THREAD_BYTES = 32 * 1024 * 1024;

export interface RunTasksOptions<T extends Task> {
  /**
   * Threads at most, however much memory and however many tasks there are.
   *
   * @default one per processor
   */
  readonly threads?: number;
  /**
   * Work on fewer bytes than this is done in the thread that asks.
   *
   * @default 64 MiB: about as long as threads take to start, and a starter model is there in a moment
   */
  readonly threadsFrom?: number;
  /** Memory for the buffers of all threads together, bytes; one thread is used whatever it takes. */
  readonly memory: number;
  readonly signal?: AbortSignal;
  /** Called with the bytes that each step read. */
  readonly onBytes?: (bytes: number) => void;
  /**
   * Called after each task, in any order; its thread waits for what this returns before it takes the next. What is thrown
   * stops all.
   */
  readonly onDone?: (index: number, result: TaskResult<T>) => Promise<void> | void;
}

/**
 * Do all tasks, in parallel where it helps; the largest first, so that no thread is left with a long one at the end.
 *
 * When one fails or `signal` is aborted, the others are stopped; then, and not before, this throws.
 *
 * @returns results in the order of the tasks
 * @throws RangeError for a number of threads that is none; what a task or callback throws
 */
export async function runTasks<T extends Task>(
  tasks: readonly T[],
  options: RunTasksOptions<T>,
): Promise<TaskResult<T>[]> {
  const { threads = 1 } = options;
  if (!Number.isInteger(threads) || threads < 1) throw new RangeError(`${threads} is not a number of threads`);
  const results: TaskResult<T>[] = [];
  const queue = [...tasks.entries()].sort(([, a], [, b]) => taskBytes(b) - taskBytes(a)).values();
  const finish = async (index: number, result: TaskResult<T>) => {
    results[index] = result;
    await options.onDone?.(index, result);
  };
  const total = tasks.reduce((sum, task) => sum + taskBytes(task), 0);
  if (total < (options.threadsFrom ?? THREADS_FROM_BYTES)) await runHere(queue, finish, options);
  else await runInThreads(threadCount(tasks, options), queue, finish, options);
  return results;
}

type Queue<T> = IterableIterator<[number, T]>;
type Finish<T extends Task> = (index: number, result: TaskResult<T>) => Promise<void>;

async function runHere<T extends Task>(
  queue: Queue<T>,
  finish: Finish<T>,
  { signal, onBytes }: RunTasksOptions<T>,
): Promise<void> {
  await using runner = new TaskRunner();
  for (const [index, task] of queue) {
    const result = await runner.run(task, (bytes) => {
      onBytes?.(bytes);
      signal?.throwIfAborted();
    });
    signal?.throwIfAborted();
    await finish(index, result as TaskResult<T>);
  }
}

function threadCount<T extends Task>(tasks: readonly T[], options: RunTasksOptions<T>): number {
  const largest = Math.max(...tasks.map(taskMemory));
  const affordable = Math.floor(options.memory / (largest + THREAD_BYTES));
  return Math.max(1, Math.min(options.threads ?? availableParallelism(), tasks.length, affordable));
}

async function runInThreads<T extends Task>(
  count: number,
  queue: Queue<T>,
  finish: Finish<T>,
  { signal, onBytes }: RunTasksOptions<T>,
): Promise<void> {
  signal?.throwIfAborted();
  const stop = Promise.withResolvers<never>();
  // Threads that end after the last task say so to nobody.
  stop.promise.catch(() => {});
  const workers = Array.from({ length: count }, () =>
    new Worker(new URL("./task-worker.ts", import.meta.url), { execArgv: [] })
      .on("error", stop.reject)
      .on("exit", (code) => stop.reject(new Error(`a worker thread ended by itself, with ${code}`))),
  );
  const onAbort = () => stop.reject(signal?.reason);
  signal?.addEventListener("abort", onAbort, { once: true });
  try {
    // One queue feeds all: whoever is free takes the next.
    const feeds = workers.map(async (worker) => {
      for (const [index, task] of queue) await finish(index, await ask(worker, task, onBytes));
    });
    await Promise.race([Promise.all(feeds), stop.promise]);
  } finally {
    signal?.removeEventListener("abort", onAbort);
    for (const worker of workers) worker.removeAllListeners("message");
    // A thread that has ended writes no more: only now may the caller remove what was being written.
    await Promise.all(workers.map((worker) => worker.terminate()));
  }
}

/** Have a worker do a task. Never answers when the worker ends before. */
function ask<T extends Task>(
  worker: Worker,
  task: T,
  onBytes: ((bytes: number) => void) | undefined,
): Promise<TaskResult<T>> {
  const { promise, resolve, reject } = Promise.withResolvers<TaskResult<T>>();
  const onMessage = (message: WorkerMessage) => {
    if (message.kind === "done") resolve(message.result as TaskResult<T>);
    else if (message.kind === "failed") reject(restoreFailure(message.failure));
    else {
      try {
        onBytes?.(message.bytes);
      } catch (error) {
        reject(error);
      }
    }
  };
  worker.on("message", onMessage);
  worker.postMessage(task);
  return promise.finally(() => worker.off("message", onMessage));
}
