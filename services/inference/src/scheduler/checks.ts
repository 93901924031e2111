import type { Job } from "./job.ts";
import type { PrefillStep } from "./step.ts";

/** @throws RangeError for a job that could never run */
export function checkJob(
  { id, kind, tokens, promptTokens = tokens, replyTokens = 0, follower }: Job,
  most: number,
): void {
  if (!Number.isSafeInteger(tokens) || tokens < 1 || tokens > most) {
    throw new RangeError(`job ${id}: ${tokens} tokens, a slot takes 1 to ${most}`);
  }
  if (!Number.isSafeInteger(promptTokens) || promptTokens < 0 || promptTokens > tokens) {
    throw new RangeError(`job ${id}: a prompt of ${promptTokens} of its ${tokens} tokens`);
  }
  if (!Number.isSafeInteger(replyTokens) || replyTokens < 0) {
    throw new RangeError(`job ${id}: a reply of ${replyTokens} tokens`);
  }
  if (follower !== undefined && kind !== "prefill") throw new RangeError(`job ${id}: a follower writes nothing itself`);
}

/** @throws RangeError for positions that no chunks could have left */
export function checkFilled<J extends Job>(step: PrefillStep<J>, end: number, chunkTokens: number): void {
  const { job, isLast, repeats } = step;
  const isWhole = Number.isSafeInteger(end) && end % chunkTokens === 0;
  if (!isWhole || end < step.end || end >= job.tokens || isLast || repeats) {
    throw new RangeError(`job ${job.id}: filled up to ${end} of its ${job.tokens} tokens, in chunks of ${chunkTokens}`);
  }
}
