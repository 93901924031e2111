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
};

/** Whole numbers from the first to the second. */
export const GUARD_POLICY_BOUNDS = {
  windowTokens: [8, 256],
  bandHundredths: [5, 100],
  stepHundredths: [1, 80],
  repetitionHundredths: [30, 100],
  twinShareBasisPoints: [0, 10_000],
} as const satisfies Partial<Record<keyof GuardPolicy, readonly [number, number]>>;
