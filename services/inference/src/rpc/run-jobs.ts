import { setTimeout } from "node:timers/promises";
import { type Reason, ServiceError } from "@persona-mesh/service";
import type { Engine } from "../engine/engine.ts";
import type { ReadingJob } from "../engine/engine-job.ts";
import type { Outcome } from "../jobs/outcome.ts";

/** Jobs of one call that are in the engine at once: enough to keep slots busy, few enough to leave room in the queue. */
const CONCURRENCY = 4;

/** Refusals that time cures. */
const PASSING: readonly Reason[] = ["QUEUE_FULL", "RATE_LIMITED"];

/** How soon a call that is under way asks again for room in a full queue, or for its tenant's next tokens. Milliseconds. */
const RETRY_INTERVAL = 20;

/**
 * Run the jobs of one call, a few at a time, and give results as they come, each with its index.
 * The first failure ends the call, and whatever way it ends, nothing of it stays in the engine.
 *
 * A full queue, or a tenant's rate, refuses a call at its first job only: later ones wait, so that work is not thrown away
 * half done.
 *
 * @throws ServiceError QUEUE_FULL, RATE_LIMITED, DRAINING; what a job failed with
 */
export async function* runJobs<Result>(
  engine: Engine,
  jobs: readonly (() => ReadingJob & { readonly outcome: Outcome<Result> })[],
  signal: AbortSignal,
): AsyncGenerator<[number, Result]> {
  const running = new Map<number, { id: string; result: Promise<[number, Result]> }>();
  const cancelAll = () => {
    for (const { id } of running.values()) engine.cancel(id);
  };
  signal.addEventListener("abort", cancelAll, { once: true });
  try {
    let next = 0;
    while (next < jobs.length || running.size > 0) {
      signal.throwIfAborted();
      for (; next < jobs.length && running.size < CONCURRENCY; next++) {
        const index = next;
        const job = (jobs[index] as (typeof jobs)[number])();
        if (!submitted(engine, job, index === 0)) break;
        running.set(index, { id: job.id, result: job.outcome.promise.then((result) => [index, result]) });
      }
      if (running.size === 0) {
        await setTimeout(RETRY_INTERVAL, undefined, { signal });
        continue;
      }
      const [index, result] = await Promise.race([...running.values()].map((job) => job.result));
      running.delete(index);
      yield [index, result];
    }
  } finally {
    signal.removeEventListener("abort", cancelAll);
    cancelAll();
    // Their rejections have no reader any more.
    for (const { result } of running.values()) result.catch(() => {});
  }
}

/** @returns whether the queue took the job; for the first job of a call it throws where it did not */
function submitted(engine: Engine, job: ReadingJob, isFirst: boolean): boolean {
  try {
    engine.submit(job);
    return true;
  } catch (error) {
    if (!isFirst && error instanceof ServiceError && PASSING.includes(error.reason)) return false;
    throw error;
  }
}
