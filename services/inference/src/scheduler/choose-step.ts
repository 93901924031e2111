import type { Job } from "./job.ts";
import { knownTokens, type SlotState, type Slots } from "./slots.ts";
import type { DecodeRow, PrefillStep, Step } from "./step.ts";

/**
 * What to run next: chunks and decode steps alternate while there are both.
 *
 * @param last - the kind of the step before
 */
export function chooseStep<J extends Job>(
  slots: Slots<J>,
  chunkTokens: number,
  last: Step<J>["kind"],
): Step<J> | undefined {
  const prefill = slots.nextToPrefill();
  const highest = slots.highestDecoding();
  if (prefill !== undefined && (highest === undefined || last === "decode")) {
    return chunkOf(prefill, slots.state(prefill), chunkTokens);
  }
  return highest === undefined ? undefined : { kind: "decode", rows: rowsOf(slots.states.slice(0, highest + 1)) };
}

function chunkOf<J extends Job>(slot: number, state: SlotState<J>, chunkTokens: number): PrefillStep<J> {
  if (state.kind !== "prefilling") throw new Error(`slot ${slot} has its turn to prefill but is ${state.kind}`);
  const { job, next: start, goal, repeats } = state;
  const { promptTokens = job.tokens, follower } = job;
  const phase = start < promptTokens ? "prompt" : "generated";
  const known = repeats ? goal : knownTokens(job);
  const boundary = (Math.floor(start / chunkTokens) + 1) * chunkTokens;
  const end = Math.min(boundary, known, phase === "prompt" ? promptTokens : goal);
  const isLast = !repeats && (end === job.tokens || (follower?.closed === true && end === known));
  return { kind: "prefill", slot, job, start, end, phase, isLast, repeats };
}

function rowsOf<J extends Job>(states: readonly SlotState<J>[]): DecodeRow<J>[] {
  return states.map((state) => {
    if (state.kind === "decoding") return { kind: "decode", job: state.job, position: state.next };
    return { kind: "idle", position: state.kind === "prefilling" ? state.next : 0 };
  });
}
