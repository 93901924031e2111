import type { Job } from "./job.ts";

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

/** @throws RangeError for a part that no chunk could have left */
export function checkPresent({ id, tokens }: Job, present: number, chunkTokens: number): void {
  if (!Number.isSafeInteger(present) || present < 0 || present >= tokens || present % chunkTokens !== 0) {
    throw new RangeError(`job ${id}: ${present} of its ${tokens} tokens are there, in chunks of ${chunkTokens}`);
  }
}
