import { formatAlpha } from "./alpha.ts";
import type { LayerComposition } from "./composition.ts";
import { type Finding, nameOf, type Term, UNIT_TOLERANCE } from "./term.ts";
import { isFiniteVector } from "./vector-math.ts";

/** The rules that a composition is held to, each with the message and the numbers of its breach. */

/** Budget of the dose summed over layers, in caps. */
export const TOTAL_DOSE_CAPS = 2;

/** |cosine| above which REJECT refuses two terms: over √½, more than half of one's energy lies along the other. */
export const MAX_OVERLAP = Math.SQRT1_2;

/**
 * Share of a term that must be left after Gram–Schmidt. A direction whose split halves agree to a cosine of 0.99 (a good
 * one) is itself known to about 0.1 of its length, so that less than this is noise.
 */
export const MIN_REMAINDER = 0.1;

/** Relative slack of the budget: directions are of unit length only to {@link UNIT_TOLERANCE}. */
const DOSE_TOLERANCE = 2 * UNIT_TOLERANCE;

/** The two figures that the budget bounds. */
export interface Doses {
  readonly largest: number;
  readonly total: number;
}

export function dosesOf(doses: readonly number[]): Doses {
  return { largest: Math.max(...doses), total: doses.reduce((total, dose) => total + dose, 0) };
}

export function isWithinBudget({ largest, total }: Doses, capHundredths: number): boolean {
  const cap = capHundredths / 100;
  return isWithin(largest, cap) && isWithin(total, TOTAL_DOSE_CAPS * cap);
}

/** Every layer, and the sum, whose dose is over the budget. */
export function overBudget(layers: readonly LayerComposition[], capHundredths: number): Finding[] {
  const cap = capHundredths / 100;
  const findings = layers
    .filter(({ dose }) => !isWithin(dose, cap))
    .map(({ layer, dose }) => doseFinding(`layer ${layer}: dose`, dose, cap, layer));
  const { total } = dosesOf(layers.map(({ dose }) => dose));
  if (!isWithin(total, TOTAL_DOSE_CAPS * cap)) {
    findings.push(doseFinding("dose summed over layers", total, TOTAL_DOSE_CAPS * cap));
  }
  return findings;
}

/** What SCALE did, from what to what. */
export function scaledDown(layers: readonly LayerComposition[], factor: number, capHundredths: number): Finding {
  const { largest, total } = dosesOf(layers.map(({ writtenDose }) => writtenDose));
  const written = `${largest.toFixed(3)} at a layer and ${total.toFixed(3)} in all`;
  return {
    reason: "DOSE_OVER_BUDGET",
    message: `dose as written, ${written}, is over the budget of cap ${formatAlpha(capHundredths)}; scaled by ${factor.toFixed(3)}`,
    details: { largest, total, factor, cap: capHundredths },
  };
}

function doseFinding(what: string, dose: number, limit: number, layer?: number): Finding {
  return {
    reason: "DOSE_OVER_BUDGET",
    message: `${what} ${dose.toFixed(3)} is over the budget ${limit.toFixed(2)}; lower the alphas or use the policy SCALE`,
    ...(layer === undefined ? {} : { layer }),
    details: { dose, limit, ...(layer === undefined ? {} : { layer }) },
  };
}

/** Pairs of terms whose directions have |cosine| over the limit. */
export function overlaps(layers: readonly LayerComposition[], terms: readonly Term[], limit: number): Finding[] {
  return layers.flatMap(({ layer, terms: members, gram }) =>
    members.flatMap((later, i) =>
      members.slice(0, i).flatMap((earlier, j): Finding[] => {
        const overlap = gram[i * members.length + j] as number;
        if (Math.abs(overlap) <= limit) return [];
        const pair = `${nameOf(terms[earlier] as Term, earlier)} and ${nameOf(terms[later] as Term, later)}`;
        const message = `layer ${layer}: ${pair} have cosine ${overlap.toFixed(3)}, over ${limit.toFixed(4)}`;
        return [{ reason: "TERMS_OVERLAP", message, term: later, layer, details: { layer, cosine: overlap, limit } }];
      }),
    ),
  );
}

/** Terms of which Gram–Schmidt left too little. */
export function vanishedTerms(layers: readonly LayerComposition[], terms: readonly Term[]): Finding[] {
  return layers.flatMap(({ layer, terms: members, remainders }) =>
    members.flatMap((index, i): Finding[] => {
      const remainder = remainders[i] as number;
      if (remainder >= MIN_REMAINDER) return [];
      const message = `layer ${layer}: ${nameOf(terms[index] as Term, index)} lies along the terms before it; ${remainder.toFixed(3)} of it is left, and at least ${MIN_REMAINDER} must be`;
      return [
        { reason: "DEGENERATE_AXIS", message, term: index, layer, details: { layer, remainder, limit: MIN_REMAINDER } },
      ];
    }),
  );
}

/** Rows that float32 cannot hold: only absurd reference norms get here. */
export function overflows(rows: ReadonlyMap<number, Float32Array>): Finding[] {
  return [...rows]
    .filter(([, row]) => !isFiniteVector(row))
    .map(([layer]) => ({
      reason: "VECTOR_NOT_FINITE",
      message: `layer ${layer}: the composed row overflows float32`,
      layer,
      details: { layer },
    }));
}

function isWithin(dose: number, limit: number): boolean {
  return dose <= limit * (1 + DOSE_TOLERANCE);
}
