import { build, decodeFromCompressedBase64, encodeIntoCompressedBase64, type Histogram } from "hdr-histogram-js";

/** Times of calls, kept to a microsecond and three digits. */
export class Latencies {
  readonly #histogram: Histogram;

  constructor(histogram: Histogram = build({ lowestDiscernibleValue: 1, highestTrackableValue: 600_000_000 })) {
    this.#histogram = histogram;
  }

  /** All of several, as they left their processes. */
  static merged(encoded: readonly string[]): Latencies {
    const all = new Latencies();
    for (const each of encoded) all.#histogram.add(decodeFromCompressedBase64(each));
    return all;
  }

  /** All of several. */
  static of(several: readonly Latencies[]): Latencies {
    const all = new Latencies();
    for (const each of several) all.#histogram.add(each.#histogram);
    return all;
  }

  /** For another process. */
  encoded(): string {
    return encodeIntoCompressedBase64(this.#histogram);
  }

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
