import { REPETITION_WINDOW, repetition } from "@persona-mesh/steering";

/** Of a window that is a loop: what the guard's default policy calls out of bounds. */
const LOOP = 0.75;

/**
 * The token at which a reply begins to loop: the first one of the first window of 64 tokens that mostly repeats itself. Undefined
 * for a reply that does not. Judged over a window twice the guard's, and so by another measure than the guard's own.
 */
export function loopStart(ids: readonly number[]): number | undefined {
  for (let start = 0; start + REPETITION_WINDOW <= ids.length; start += 4) {
    if (repetition(ids.slice(start, start + REPETITION_WINDOW)) >= LOOP) return start;
  }
  return undefined;
}
