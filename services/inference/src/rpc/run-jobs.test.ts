import { type Reason, ServiceError } from "@persona-mesh/service";
import { describe, expect, test } from "vitest";
import type { Engine } from "../engine/engine.ts";
import type { ReadingJob } from "../engine/engine-job.ts";
import { Outcome } from "../jobs/outcome.ts";
import { runJobs } from "./run-jobs.ts";

type TestJob = ReadingJob & { readonly outcome: Outcome<string> };

/**
 * An engine that runs nothing by itself: the test says which job ends, and how.
 *
 * @param room - how many it takes before it is full
 * @param refusal - why it takes no more then
 */
function stage(count: number, room = Number.POSITIVE_INFINITY, refusal: Reason = "QUEUE_FULL") {
  const submitted: string[] = [];
  const cancelled: string[] = [];
  const outcomes = new Map<string, Outcome<string>>();
  const live = new Set<string>();
  const engine = {
    submit: (job: TestJob) => {
      if (live.size >= room) throw new ServiceError(refusal, "full");
      live.add(job.id);
      submitted.push(job.id);
      outcomes.set(job.id, job.outcome);
    },
    cancel: (id: string) => {
      cancelled.push(id);
      live.delete(id);
      outcomes.get(id)?.settle({ kind: "cancelled" }, () => "");
    },
  } as unknown as Engine;
  const jobs = Array.from({ length: count }, (_, index) => () => {
    return { id: `${index}`, outcome: new Outcome<string>() } as unknown as TestJob;
  });
  const abort = new AbortController();
  return {
    submitted,
    cancelled,
    abort,
    /** Somebody else takes a place, and keeps it. */
    occupy: () => {
      live.add("somebody else");
    },
    finish: (index: number) => {
      live.delete(`${index}`);
      outcomes.get(`${index}`)?.settle({ kind: "finished", reason: "prefilled" }, () => `result ${index}`);
    },
    fail: (index: number, error: unknown) => {
      live.delete(`${index}`);
      outcomes.get(`${index}`)?.settle({ kind: "failed", error }, () => "");
    },
    results: runJobs<string>(engine, jobs, abort.signal),
  };
}

test("a few jobs run at once, the next one follows each that is done, and results come as they are there", async () => {
  const { results, submitted, finish } = stage(6);
  const first = results.next();
  expect(submitted).toEqual(["0", "1", "2", "3"]);
  finish(2);
  expect(await first).toEqual({ done: false, value: [2, "result 2"] });
  const second = results.next();
  expect(submitted).toEqual(["0", "1", "2", "3", "4"]);
  finish(0);
  expect(await second).toEqual({ done: false, value: [0, "result 0"] });
  const rest: unknown[] = [];
  const reading = (async () => {
    for await (const result of results) rest.push(result);
  })();
  for (const index of [1, 3, 4]) finish(index);
  await Promise.resolve();
  while (!submitted.includes("5")) await new Promise((resolve) => setImmediate(resolve));
  finish(5);
  await reading;
  expect(rest.map((result) => (result as [number, string])[0]).sort()).toEqual([1, 3, 4, 5]);
});

describe("nothing stays in the engine", () => {
  test("when one job fails", async () => {
    const { results, fail, cancelled } = stage(6);
    const first = results.next();
    const boom = new Error("boom");
    fail(1, boom);
    await expect(first).rejects.toBe(boom);
    expect(cancelled.filter((id) => id !== "1").sort()).toEqual(["0", "2", "3"]);
    expect((await results.next()).done).toBe(true);
  });

  test("when the caller goes in the middle, and when it stops reading", async () => {
    const gone = stage(6);
    const first = gone.results.next();
    gone.abort.abort(new Error("gone"));
    await expect(first).rejects.toMatchObject({ reason: "CANCELLED" });
    expect(gone.cancelled.slice(0, 4).sort()).toEqual(["0", "1", "2", "3"]);

    const left = stage(6);
    const one = left.results.next();
    left.finish(0);
    await one;
    await left.results.return(undefined);
    expect(left.cancelled.sort()).toEqual(["1", "2", "3"]);
  });

  test("when the caller was gone before", async () => {
    const { results, abort, submitted } = stage(2);
    abort.abort(new Error("gone"));
    await expect(results.next()).rejects.toThrow("gone");
    expect(submitted).toEqual([]);
  });
});

describe.each<Reason>(["QUEUE_FULL", "RATE_LIMITED"])("a refusal for %s", (reason) => {
  test("ends a call at its first job", async () => {
    const { results, submitted } = stage(3, 0, reason);
    await expect(results.next()).rejects.toMatchObject({ reason });
    expect(submitted).toEqual([]);
  });

  test("makes the later jobs of a call wait until there is room", async () => {
    const { results, submitted, finish } = stage(3, 1, reason);
    for (const index of [0, 1, 2]) {
      const next = results.next();
      while (!submitted.includes(`${index}`)) await new Promise((resolve) => setImmediate(resolve));
      expect(submitted).toHaveLength(index + 1);
      finish(index);
      expect(await next).toEqual({ done: false, value: [index, `result ${index}`] });
    }
    expect((await results.next()).done).toBe(true);
  });

  test("makes them wait no longer than their caller does", async () => {
    const { results, submitted, finish, occupy, abort } = stage(2, 1);
    const first = results.next();
    occupy();
    finish(0);
    await first;
    const second = results.next();
    abort.abort(new Error("gone"));
    await expect(second).rejects.toMatchObject({ name: "AbortError" });
    expect(submitted).toEqual(["0"]);
  });
});
