/** A mass of probability that is known to lie between the two. Relative to the most likely token's, which is 1. */
export interface Mass {
  readonly low: number;
  readonly high: number;
}

export const UNKNOWN_MASS: Mass = { low: 0, high: Number.POSITIVE_INFINITY };

/** Room for the rounding of double-precision sums over a vocabulary, relative: 2²¹ additions of 2⁻⁵³ are 2.3e-10. */
export const ROUNDING = 1e-9;
