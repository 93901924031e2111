/** How the guard watches replies, and what it does. A tenant's to choose, within these bounds. */
export interface GuardPolicy {
  /** Observe and report, and never lower alpha. */
  readonly observeOnly: boolean;
  /** Tokens whose means are compared with the baseline. */
  readonly windowTokens: number;
  /** Half-width of the band around the baseline's entropy, in hundredths of it; widened where unsteered windows spread more. */
  readonly bandHundredths: number;
  /** Of effective alpha, per event. */
  readonly stepHundredths: number;
  /** Repetition of a window that is out of bounds, in hundredths. */
  readonly repetitionHundredths: number;
  /** What happens to keys and values of the reply that were written at a higher alpha. */
  readonly cache: "KEEP" | "REPREFILL";
  /** Share of steered replies that get an unsteered twin, in hundredths of a percent. */
  readonly twinShareBasisPoints: number;
  /** Every so many tokens of a steered reply its keys and values are computed anew; 0 for only as `cache` says. */
  readonly refillTokens: number;
}

/** The reference article's band and step; a window of about one sentence. */
export const DEFAULT_GUARD_POLICY: GuardPolicy = {
  observeOnly: false,
  windowTokens: 32,
  bandHundredths: 15,
  stepHundredths: 10,
  repetitionHundredths: 75,
  cache: "KEEP",
  twinShareBasisPoints: 100,
  refillTokens: 0,
};

/** Whole numbers from the first to the second; `refillTokens` may be 0 too. */
export const GUARD_POLICY_BOUNDS = {
  windowTokens: [8, 256],
  bandHundredths: [5, 100],
  stepHundredths: [1, 80],
  repetitionHundredths: [30, 100],
  twinShareBasisPoints: [0, 10_000],
  // A refill reads the whole reply: more often, a long one would be read a hundred times over.
  refillTokens: [16, 4096],
} as const satisfies Partial<Record<keyof GuardPolicy, readonly [number, number]>>;
