import type { Ending, Job } from "./job.ts";
import type { Slots } from "./slots.ts";
import type { PrefillStep, RowOutcome } from "./step.ts";

/** What a chunk brought: its job goes on, decodes from now on, goes back or leaves. */
export function settleChunk<J extends Job>(
  slots: Slots<J>,
  contextTokens: number,
  { slot, job, end, isLast }: PrefillStep<J>,
  outcome: RowOutcome,
): void {
  if (slots.state(slot).kind !== "prefilling") return;
  if (outcome.kind === "finish" || outcome.kind === "fail") slots.leave(slot, job, endingOf(outcome));
  else if (isLast && job.kind === "prefill") slots.leave(slot, job, { kind: "finished", reason: "prefilled" });
  else if (end >= contextTokens) slots.leave(slot, job, { kind: "finished", reason: "context" });
  else if (outcome.kind === "continue") slots.advancePrefill(slot, end);
  else if (isLast) goBack(slots, slot, job, outcome.from, end);
  else fail(slots, slot, job, `job ${job.id}: no token was sampled that it could go back before`);
}

/** What a decode step brought one of its jobs. */
export function settleRow<J extends Job>(
  slots: Slots<J>,
  contextTokens: number,
  slot: number,
  { job, position }: { readonly job: J; readonly position: number },
  outcome: RowOutcome,
): void {
  if (slots.state(slot).kind === "leaving") return;
  const next = position + 1;
  if (outcome.kind === "finish" || outcome.kind === "fail") slots.leave(slot, job, endingOf(outcome));
  // A full slot has no unwritten position to point at: it must not be in another step.
  else if (next >= contextTokens) slots.leave(slot, job, { kind: "finished", reason: "context" });
  else if (outcome.kind === "continue") slots.advanceDecode(slot, job, next);
  else goBack(slots, slot, job, outcome.from, next);
}

function goBack<J extends Job>(slots: Slots<J>, slot: number, job: J, from: number, goal: number): void {
  const isThere = Number.isSafeInteger(from) && from >= 0 && from <= goal;
  if (isThere) slots.rewind(slot, job, from, goal);
  else fail(slots, slot, job, `job ${job.id} goes back to ${from}, it is at ${goal}`);
}

function fail<J extends Job>(slots: Slots<J>, slot: number, job: J, message: string): void {
  slots.leave(slot, job, { kind: "failed", error: new RangeError(message) });
}

function endingOf(outcome: Extract<RowOutcome, { kind: "finish" | "fail" }>): Ending {
  return outcome.kind === "finish"
    ? { kind: "finished", reason: outcome.reason }
    : { kind: "failed", error: outcome.error };
}
