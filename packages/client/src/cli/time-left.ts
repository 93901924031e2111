/** Half of what is believed of the speed comes from so many last milliseconds: long enough that a number stands still. */
const HALF_LIFE_MILLIS = 8_000;

/** Earlier than this there is nothing to go by. */
const FIRST_ESTIMATE_MILLIS = 1_000;

/** Speed is measured over steps of at least so long: what comes in bursts has no speed within one. */
const STEP_MILLIS = 250;

/**
 * How long the rest of something takes, from how fast it went: an average that forgets, so that it follows a disk that
 * slows down and does not jump with every file.
 */
export class TimeLeft {
  readonly #now: () => number;
  #begun: number;
  #at: number;
  #done = 0;
  /** Work per millisecond, weighted; undefined until the first step. */
  #speed: number | undefined;

  /** @param now - milliseconds of a clock that never goes back */
  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
    this.#begun = now();
    this.#at = this.#begun;
  }

  /**
   * @param done - of the work, in any unit
   * @param total - in the same unit
   * @returns milliseconds; undefined while nothing can be said
   */
  update(done: number, total: number): number | undefined {
    const now = this.#now();
    const elapsed = now - this.#at;
    if (elapsed >= STEP_MILLIS) {
      const speed = (done - this.#done) / elapsed;
      const kept = this.#speed === undefined ? 0 : 0.5 ** (elapsed / HALF_LIFE_MILLIS);
      this.#speed = kept * (this.#speed ?? 0) + (1 - kept) * speed;
      this.#at = now;
      this.#done = done;
    }
    if (now - this.#begun < FIRST_ESTIMATE_MILLIS || this.#speed === undefined || this.#speed <= 0) return undefined;
    // From the last step on: between two steps the estimate counts down.
    return Math.max(0, (total - this.#done) / this.#speed - (now - this.#at));
  }
}

/** A rest that people can rely on, coarser the longer it is: "8 s left", "1 min 20 s left", "about 12 min left". */
export function formatTimeLeft(millis: number): string {
  const seconds = Math.max(1, Math.round(millis / 1000));
  if (seconds < 10) return `${seconds} s left`;
  if (seconds < 60) return `${5 * Math.round(seconds / 5)} s left`;
  if (seconds < 300) {
    const coarse = 10 * Math.round(seconds / 10);
    return `${Math.floor(coarse / 60)} min ${String(coarse % 60).padStart(2, "0")} s left`;
  }
  const minutes = Math.round(seconds / 60);
  return minutes < 120 ? `about ${minutes} min left` : `about ${Math.round(minutes / 60)} h left`;
}
