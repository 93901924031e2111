import {
  bandOf,
  type CoherenceBaseline,
  type GuardBand,
  type GuardBaseline,
  type GuardBaselineSample,
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
 * Windows whose statistics are kept. They take some 15 ms each to find, which running streams would wait for; a band is made from them in
 * a fraction of one. Tenants choose windows from 249, so that all that they may ask for does not fit, and what they use does.
 */
const MAX_WINDOWS = 64;

/** What the unsteered replies of the served model are like, for every policy and temperature that is asked for. */
export class ServedBaseline {
  readonly #baseline: GuardBaseline | undefined;
  /** The least recently asked for comes first. */
  readonly #windows = new Map<string, WindowStatistics>();

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
    return { band: bandOf(this.#measured(sample, policy.windowTokens), policy), coherence: sample.coherence };
  }

  /** Temperatures that it was measured at. */
  get temperatures(): number[] {
    return this.#baseline?.samples.map(({ temperature }) => temperature) ?? [];
  }

  #measured({ temperature, replies }: GuardBaselineSample, windowTokens: number): WindowStatistics {
    const key = `${temperature} ${windowTokens}`;
    const measured = this.#windows.get(key) ?? measureWindows(replies, windowTokens);
    this.#windows.delete(key);
    this.#windows.set(key, measured);
    const [oldest] = this.#windows.keys();
    if (this.#windows.size > MAX_WINDOWS && oldest !== undefined) this.#windows.delete(oldest);
    return measured;
  }
}
