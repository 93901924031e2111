import type { Job } from "./job.ts";
import { knownTokens, type SlotState, type Slots } from "./slots.ts";
import type { DecodeRow, PrefillStep, Step } from "./step.ts";

/** Rows that matrix kernels take at once: of one more, the last is alone. Measured with ONNX Runtime 1.30 on x64. */
const KERNEL_ROWS = 64;

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
  const end = chunkEnd(start, Math.min(known, phase === "prompt" ? promptTokens : goal), chunkTokens);
  const isLast = !repeats && (end === job.tokens || (follower?.closed === true && end === known));
  return { kind: "prefill", slot, job, start, end, phase, isLast, repeats };
}

/**
 * The next multiple of the chunk size, or `limit`; or a little before or behind, so that no position is computed alone unless
 * there is but one. A position alone takes other kernels than several together, with other last bits; of several, each
 * comes out the same however many there are. So what is computed does not depend on the chunk size.
 */
function chunkEnd(start: number, limit: number, chunkTokens: number): number {
  const next = Math.min(limit, (Math.floor(start / chunkTokens) + 1) * chunkTokens);
  const isFit = (end: number) => (end - start) % KERNEL_ROWS !== 1 && limit - end !== 1;
  for (let end = next; end >= start + 2; end--) if (isFit(end)) return end;
  for (let end = next + 1; end <= limit; end++) if (isFit(end)) return end;
  return limit;
}

function rowsOf<J extends Job>(states: readonly SlotState<J>[]): DecodeRow<J>[] {
  return states.map((state) => {
    if (state.kind === "decoding") return { kind: "decode", job: state.job, position: state.next };
    return { kind: "idle", position: state.kind === "prefilling" ? state.next : 0 };
  });
}
