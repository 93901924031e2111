import {
  bandOf,
  type CoherenceBaseline,
  type GuardBand,
  type GuardBaseline,
  type GuardPolicy,
  measureWindows,
  sampleFor,
  type WindowStatistics,
} from "@persona-mesh/steering";

/** What replies are compared with. */
export interface BaselineFigures {
  readonly band: GuardBand;
  readonly coherence: CoherenceBaseline;
}

/**
 * Windows whose statistics are kept. They take some 15 ms each to find, which running streams would wait for. Tenants choose windows from
 * 249, so that all that they may ask for does not fit, and what they use does.
 */
const MAX_WINDOWS = 64;

/** Policies whose figures are kept: a third of a millisecond each, which every request would take. */
const MAX_FIGURES = 256;

/** What the unsteered replies of the served model are like, for every policy and temperature that is asked for. */
export class ServedBaseline {
  readonly #baseline: GuardBaseline | undefined;
  readonly #windows = new Recent<WindowStatistics>(MAX_WINDOWS);
  readonly #figures = new Recent<BaselineFigures>(MAX_FIGURES);

  /** @param baseline - undefined where none was ever measured */
  constructor(baseline: GuardBaseline | undefined) {
    this.#baseline = baseline;
  }

  /**
   * Measured with the sampling that is most like the request's; undefined without a baseline.
   *
   * @throws SteeringError BASELINE_INVALID where too few replies are as long as any window
   */
  for(policy: GuardPolicy, temperature: number): BaselineFigures | undefined {
    if (this.#baseline === undefined) return undefined;
    const sample = sampleFor(this.#baseline, temperature);
    const { windowTokens, bandHundredths, repetitionHundredths } = policy;
    const window = `${sample.temperature} ${windowTokens}`;
    return this.#figures.get(`${window} ${bandHundredths} ${repetitionHundredths}`, () => {
      const statistics = this.#windows.get(window, () => measureWindows(sample.replies, windowTokens));
      return { band: bandOf(statistics, policy), coherence: sample.coherence };
    });
  }

  /** Temperatures that it was measured at. */
  get temperatures(): number[] {
    return this.#baseline?.samples.map(({ temperature }) => temperature) ?? [];
  }
}

/** What was asked for last, up to a number of keys. */
class Recent<V> {
  readonly #most: number;
  /** The least recently asked for comes first. */
  readonly #values = new Map<string, V>();

  constructor(most: number) {
    this.#most = most;
  }

  get(key: string, make: () => V): V {
    const value = this.#values.get(key) ?? make();
    this.#values.delete(key);
    this.#values.set(key, value);
    const [oldest] = this.#values.keys();
    if (this.#values.size > this.#most && oldest !== undefined) this.#values.delete(oldest);
    return value;
  }
}
