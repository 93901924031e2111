import { SteeringError } from "./error.ts";

/**
 * The alpha policy: how strong steering may be, and how it is lowered.
 *
 * Alphas are integer hundredths here (35 is 0.35), so that a step of 0.1 is exact and equal alphas compare equal.
 */

/** No persona goes further: the reference article measured a sharp fall of coherence beyond 0.8. */
export const HARD_CAP_HUNDREDTHS = 80;

/** How far an evaluation sweep may look past the cap, to see where the fall begins. No tenant's request gets there. */
export const SWEEP_CAP_HUNDREDTHS = 120;

/** One step down, of the guard and of a lowered policy alike. */
export const ALPHA_STEP_HUNDREDTHS = 10;

/** Where the text of a persona goes. */
export type DeploymentContext = "CUSTOMER_FACING" | "INTERNAL";

/** Largest |alpha| of a context, in hundredths. */
export const CONTEXT_CAP_HUNDREDTHS: Readonly<Record<DeploymentContext, number>> = {
  CUSTOMER_FACING: 50,
  INTERNAL: HARD_CAP_HUNDREDTHS,
};

/**
 * The cap that holds for a tenant: the context's, or the tenant's own where that is lower.
 *
 * @param overrideHundredths - the tenant's own cap, 0 to the context's cap
 * @throws SteeringError CAP_RAISED when the override is higher than the context's cap; CAP_OUT_OF_RANGE when it is not a
 *   whole number of hundredths from 0
 */
export function capOf(context: DeploymentContext, overrideHundredths?: number): number {
  const cap = CONTEXT_CAP_HUNDREDTHS[context];
  if (overrideHundredths === undefined) return cap;
  if (!Number.isSafeInteger(overrideHundredths) || overrideHundredths < 0) {
    throw new SteeringError(
      "CAP_OUT_OF_RANGE",
      `alpha cap ${overrideHundredths} is not a whole number of hundredths from 0`,
      {
        override: overrideHundredths,
      },
    );
  }
  if (overrideHundredths > cap) {
    throw new SteeringError(
      "CAP_RAISED",
      `a tenant's cap ${formatAlpha(overrideHundredths)} is over the cap ${formatAlpha(cap)} of ${context}; a tenant can only lower it`,
      { override: overrideHundredths, cap, context },
    );
  }
  return overrideHundredths;
}

/**
 * A decimal alpha as integer hundredths.
 *
 * @param alpha - signed share of the reference norm, at most two decimals
 * @throws SteeringError ALPHA_NOT_HUNDREDTHS when it is not finite or has more than two decimals
 */
export function toHundredths(alpha: number): number {
  const hundredths = Math.round(alpha * 100);
  // 0.29 * 100 is 28.999999999999996: what binary fractions lose is far below this, a third decimal far above.
  if (!Number.isSafeInteger(hundredths) || Math.abs(alpha * 100 - hundredths) > 1e-6) {
    throw new SteeringError("ALPHA_NOT_HUNDREDTHS", `alpha ${alpha} is not a number of at most two decimals`, {
      alpha,
    });
  }
  return hundredths === 0 ? 0 : hundredths;
}

/**
 * Refuse an alpha over a cap.
 *
 * @param where - what the alpha belongs to, for the message
 * @throws SteeringError ALPHA_NOT_HUNDREDTHS, ALPHA_OVER_CAP
 */
export function requireAlphaWithin(alphaHundredths: number, capHundredths: number, where: string): void {
  if (!Number.isSafeInteger(alphaHundredths)) {
    throw new SteeringError(
      "ALPHA_NOT_HUNDREDTHS",
      `${where}: alpha ${alphaHundredths} is not a whole number of hundredths`,
      {
        alpha: alphaHundredths,
      },
    );
  }
  if (Math.abs(alphaHundredths) > capHundredths) {
    throw new SteeringError(
      "ALPHA_OVER_CAP",
      `${where}: alpha ${formatAlpha(alphaHundredths)} is over the cap ${formatAlpha(capHundredths)}`,
      { alpha: alphaHundredths, cap: capHundredths },
    );
  }
}

/**
 * Effective alpha of a persona: its largest |term alpha| times the gain, in integer hundredths.
 *
 * Rounded up, so that what is reported is never less than what acts.
 *
 * @param gain - 0 to 1
 * @throws SteeringError GAIN_OUT_OF_RANGE
 */
export function effectiveAlpha(termAlphasHundredths: Iterable<number>, gain = 1): number {
  if (!(gain >= 0 && gain <= 1)) {
    throw new SteeringError("GAIN_OUT_OF_RANGE", `gain ${gain} is not from 0 to 1`, { gain });
  }
  let largest = 0;
  for (const alpha of termAlphasHundredths) largest = Math.max(largest, Math.abs(alpha));
  // 35 * (20 / 35) is 20.000000000000004, which is meant to be 20.
  return Math.max(0, Math.ceil(largest * gain - 1e-6));
}

/** Gain under which a persona with this largest |term alpha| has the given effective alpha; 0 to 1. */
export function gainFor(effectiveHundredths: number, largestAlphaHundredths: number): number {
  if (largestAlphaHundredths === 0) return 1;
  return Math.max(0, Math.min(1, effectiveHundredths / Math.abs(largestAlphaHundredths)));
}

/** One step down from an effective alpha, not below 0. */
export function stepDown(effectiveHundredths: number): number {
  return Math.max(0, effectiveHundredths - ALPHA_STEP_HUNDREDTHS);
}

/**
 * What a policy change leaves of an effective alpha: lowered by steps of 0.1 until it is within the cap.
 *
 * @returns the alpha after each step, in hundredths; empty when it was within the cap
 */
export function stepsToCap(effectiveHundredths: number, capHundredths: number): number[] {
  if (!(capHundredths >= 0)) {
    throw new SteeringError("CAP_OUT_OF_RANGE", `alpha cap ${capHundredths} is below 0`, { cap: capHundredths });
  }
  const steps: number[] = [];
  let alpha = effectiveHundredths;
  while (alpha > capHundredths) {
    alpha = stepDown(alpha);
    steps.push(alpha);
  }
  return steps;
}

/** Hundredths as the decimal that people write: 35 is "0.35". */
export function formatAlpha(hundredths: number): string {
  return (hundredths / 100).toFixed(2);
}
