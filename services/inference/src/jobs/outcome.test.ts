import { expect, test } from "vitest";
import { Outcome } from "./outcome.ts";

test("a job that finished gives its result; the result is not asked for otherwise", async () => {
  const outcome = new Outcome<number>();
  outcome.settle({ kind: "finished", reason: "prefilled" }, () => 7);
  expect(await outcome.promise).toBe(7);
  const failed = new Outcome<number>();
  const boom = new Error("boom");
  failed.settle({ kind: "failed", error: boom }, () => {
    throw new Error("asked for a result that is not there");
  });
  await expect(failed.promise).rejects.toBe(boom);
});

test.each([
  ["cancelled", "CANCELLED"],
  ["displaced", "QUEUE_FULL"],
  ["drained", "DRAINING"],
] as const)("a job that was %s fails with %s", async (kind, reason) => {
  const outcome = new Outcome<number>();
  outcome.settle({ kind }, () => 7);
  await expect(outcome.promise).rejects.toMatchObject({ reason });
});
