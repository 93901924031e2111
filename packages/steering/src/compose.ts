import type { Composition, CompositionPolicy, LayerComposition, Scale } from "./composition.ts";
import {
  dosesOf,
  isWithinBudget,
  MAX_OVERLAP,
  MIN_REMAINDER,
  overBudget,
  overflows,
  overlaps,
  scaledDown,
  TOTAL_DOSE_CAPS,
  vanishedTerms,
} from "./composition-findings.ts";
import { actsAt, checkTerms, layersOf, type Term, UNIT_TOLERANCE } from "./term.ts";
import { addScaled, gramMatrix, norm, scaled, subtractComponent, type Vector } from "./vector-math.ts";

/**
 * Composition: a persona's terms become one row per steered layer, `Σ alpha · referenceNorm · direction`.
 *
 * The registry runs it when a persona is written and the worker when it loads it, and both get the same bytes: sums run
 * in float64 in the order of the terms, and are rounded to float32 once. The result explains itself: the Gram matrix of
 * the terms, the dose as written and as it acts, and a finding for everything that was changed or refused.
 *
 * Budget: the dose at a layer, ‖row‖ over the reference norm, stays within the cap of the deployment context, and its
 * sum over layers within {@link TOTAL_DOSE_CAPS} times the cap.
 */

export interface ComposeOptions {
  /** In the order written, which decides what Gram–Schmidt leaves. */
  readonly terms: readonly Term[];
  /** Width of the model's residual stream. */
  readonly hiddenSize: number;
  /** Blocks of the model. */
  readonly layerCount: number;
  /** Cap of the deployment context for one alpha and for the dose at a layer, in hundredths. See `capOf`. */
  readonly capHundredths: number;
  /** @default "REJECT" */
  readonly policy?: CompositionPolicy;
  /** @default "REFERENCE_NORM" */
  readonly scale?: Scale;
  /** An evaluation sweep: doses are reported and not limited. @default false */
  readonly anyDose?: boolean;
}

/**
 * Compose a persona. Deterministic, and never throws for what a persona says: unfit terms are REJECTED with findings.
 *
 * @throws RangeError when the model or the cap is no model and no cap: a fault of the caller's program
 */
export function compose(options: ComposeOptions): Composition {
  const { terms, hiddenSize, layerCount, capHundredths, policy = "REJECT" } = options;
  requireCount("hiddenSize", hiddenSize, 1);
  requireCount("layerCount", layerCount, 1);
  requireCount("capHundredths", capHundredths, 0);

  const unfit = checkTerms(terms, options);
  if (unfit.length > 0) return { outcome: "REJECTED", layers: [], totalDose: 0, findings: unfit };

  const steered = [...new Set(terms.flatMap(layersOf))].sort((a, b) => a - b);
  const sums = steered.map((layer) => sumAt(layer, options));
  const factor = policy === "SCALE" ? factorWithin(sums, capHundredths) : 1;

  const rows = new Map<number, Float32Array>();
  const layers = sums.map((sum): LayerComposition => {
    const row = scaled(sum.delta, factor);
    rows.set(sum.layer, row);
    const { delta: _, ...explained } = sum;
    return { ...explained, dose: norm(row) / sum.referenceNorm };
  });
  const totalDose = dosesOf(layers.map(({ dose }) => dose)).total;

  const refusals = [
    ...overflows(rows),
    ...(policy === "ORTHOGONALIZE" ? vanishedTerms(layers, terms) : []),
    ...(policy === "REJECT" ? overlaps(layers, terms, MAX_OVERLAP) : []),
    ...(options.anyDose ? [] : overBudget(layers, capHundredths)),
  ];
  if (refusals.length > 0) return { outcome: "REJECTED", layers, totalDose, findings: refusals };
  if (factor < 1) {
    const findings = [scaledDown(layers, factor, capHundredths)];
    return { outcome: "SCALED", rows, factor, layers, totalDose, findings };
  }
  const changed = policy === "ORTHOGONALIZE" ? overlaps(layers, terms, UNIT_TOLERANCE) : [];
  const outcome = changed.length > 0 ? "ORTHOGONALIZED" : "ACCEPTED";
  return { outcome, rows, factor, layers, totalDose, findings: changed };
}

/** The sum at one layer before any scaling; the delta is float64[hidden]. */
type LayerSum = LayerComposition & { readonly delta: Float64Array };

function sumAt(layer: number, { terms, hiddenSize, policy, scale }: ComposeOptions): LayerSum {
  const members = terms.flatMap((term, index) => {
    const at = actsAt(term, layer) ? term.directions.get(layer) : undefined;
    if (at === undefined) return [];
    const unit = scale === "UNIT" ? 1 : at.referenceNorm;
    return [{ index, ...at, weight: (term.alphaHundredths / 100) * unit }];
  });
  const directions = members.map(({ direction }) => direction);
  const axes: readonly Vector[] = policy === "ORTHOGONALIZE" ? orthogonalAxes(directions) : directions;

  const weights = members.map(({ weight }) => weight);
  const delta = weightedSum(weights, axes, hiddenSize);
  const written = axes === directions ? delta : weightedSum(weights, directions, hiddenSize);
  const referenceNorm = Math.min(...members.map((member) => member.referenceNorm));
  return {
    layer,
    terms: members.map(({ index }) => index),
    gram: gramMatrix(directions),
    remainders: axes.map((axis, i) => (axis === directions[i] ? 1 : norm(axis) / norm(directions[i] as Float32Array))),
    referenceNorm,
    writtenDose: norm(written) / referenceNorm,
    dose: norm(delta) / referenceNorm,
    delta,
  };
}

function weightedSum(weights: readonly number[], vectors: readonly Vector[], width: number): Float64Array {
  const sum = new Float64Array(width);
  for (const [i, vector] of vectors.entries()) addScaled(sum, weights[i] as number, vector);
  return sum;
}

/** Gram–Schmidt in the order given; what is left of each direction keeps its length. */
function orthogonalAxes(directions: readonly Float32Array[]): Float64Array[] {
  const basis: Float64Array[] = [];
  return directions.map((direction) => {
    const axis = new Float64Array(direction);
    for (const earlier of basis) subtractComponent(axis, earlier);
    // A vanished axis is refused later; it must not become a divisor here.
    if (norm(axis) >= MIN_REMAINDER) basis.push(axis);
    return axis;
  });
}

/** One factor for all layers, at most 1, that brings every layer and the sum within the budget. */
function factorWithin(sums: readonly LayerSum[], capHundredths: number): number {
  const doses = dosesOf(sums.map(({ dose }) => dose));
  if (isWithinBudget(doses, capHundredths)) return 1;
  const cap = capHundredths / 100;
  return Math.min(cap / doses.largest, (TOTAL_DOSE_CAPS * cap) / doses.total);
}

function requireCount(name: string, value: number, least: number): void {
  if (!Number.isSafeInteger(value) || value < least) {
    throw new RangeError(`${name} ${value} is not a whole number from ${least}`);
  }
}
