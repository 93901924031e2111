import {
  type CoherenceBaseline,
  type GuardBand,
  type GuardBaseline,
  type GuardPolicy,
  guardBand,
  sampleFor,
} from "@persona-mesh/steering";

/** What replies are compared with. */
export interface BaselineFigures {
  readonly band: GuardBand;
  readonly coherence: CoherenceBaseline;
}

/** Bands that are kept: more than tenants usually have different policies, few enough to bound what they may ask for. */
const MAX_BANDS = 64;

/** What the unsteered replies of the served model are like, for every policy and temperature that is asked for. */
export class ServedBaseline {
  readonly #baseline: GuardBaseline | undefined;
  /** The least recently asked for comes first. */
  readonly #bands = new Map<string, GuardBand>();

  /** @param baseline - undefined where none was ever measured */
  constructor(baseline: GuardBaseline | undefined) {
    this.#baseline = baseline;
  }

  /**
   * Measured with the sampling that is most like the request's; undefined without a baseline.
   *
   * @throws SteeringError BASELINE_INVALID where no reply is as long as any window
   */
  for(policy: GuardPolicy, temperature: number): BaselineFigures | undefined {
    if (this.#baseline === undefined) return undefined;
    const sample = sampleFor(this.#baseline, temperature);
    const { windowTokens, bandHundredths, repetitionHundredths } = policy;
    const key = [sample.temperature, windowTokens, bandHundredths, repetitionHundredths].join();
    const band = this.#bands.get(key) ?? guardBand(sample.replies, policy);
    this.#bands.delete(key);
    this.#bands.set(key, band);
    const [oldest] = this.#bands.keys();
    if (this.#bands.size > MAX_BANDS && oldest !== undefined) this.#bands.delete(oldest);
    return { band, coherence: sample.coherence };
  }

  /** Temperatures that it was measured at. */
  get temperatures(): number[] {
    return this.#baseline?.samples.map(({ temperature }) => temperature) ?? [];
  }
}
