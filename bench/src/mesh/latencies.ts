import { build, type Histogram } from "hdr-histogram-js";

/** Times of calls, kept to a microsecond and three digits. */
export class Latencies {
  readonly #histogram: Histogram = build({ lowestDiscernibleValue: 1, highestTrackableValue: 600_000_000 });

  /** Milliseconds. */
  add(milliseconds: number): void {
    this.#histogram.recordValue(Math.max(1, Math.round(milliseconds * 1000)));
  }

  get count(): number {
    return this.#histogram.totalCount;
  }

  /** @param percent - 50 for the median. @returns milliseconds */
  at(percent: number): number {
    return this.#histogram.getValueAtPercentile(percent) / 1000;
  }
}
