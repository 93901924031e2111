/** The first tokens of a row in descending order of their logit, equal ones in ascending order of their id. */
export interface Candidates {
  readonly ids: Int32Array;
  readonly logits: Float32Array;
  /** Tokens behind the last candidate, none with a larger logit than it. */
  readonly rest: number;
  /** log Σ exp(logits) over the vocabulary, nats. */
  readonly logSumExp: number;
  /** Mass of the vocabulary at the temperature, relative to the first candidate's. */
  readonly whole: Mass;
}

/** A mass of probability that is known to lie between the two. Relative to the most likely token's, which is 1. */
export interface Mass {
  readonly low: number;
  readonly high: number;
}

export const UNKNOWN_MASS: Mass = { low: 0, high: Number.POSITIVE_INFINITY };

/** Room for the rounding of double-precision sums over a vocabulary, relative: 2²¹ additions of 2⁻⁵³ are 2.3e-10. */
export const ROUNDING = 1e-9;
