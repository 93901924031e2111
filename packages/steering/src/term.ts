import { formatAlpha } from "./alpha.ts";
import type { CompositionReason, ErrorDetails } from "./error.ts";
import { isFiniteVector, norm } from "./vector-math.ts";

/**
 * The terms of a persona, and what makes one unfit to compose.
 *
 * Everything here may come from a caller: nothing is taken on trust, and every complaint says which term and layer.
 */

/** A vector at one layer. */
export interface LayerDirection {
  /** Unit vector, float32[hidden]. */
  readonly direction: Float32Array;
  /** Median L2 norm of the unsteered residual at this layer, > 0. */
  readonly referenceNorm: number;
}

/** One vector of a persona, and how strongly it acts. */
export interface Term {
  /** What the messages call it; unique within the persona. */
  readonly id: string;
  /** Signed share of the reference norm, in integer hundredths. */
  readonly alphaHundredths: number;
  /** By 0-based layer. */
  readonly directions: ReadonlyMap<number, LayerDirection>;
  /** Where the term acts. @default every layer that it has a direction for */
  readonly layers?: readonly number[];
}

/** One thing about a composition: why it was changed or refused. */
export interface Finding {
  readonly reason: CompositionReason;
  readonly message: string;
  /** Index into the terms as given. */
  readonly term?: number;
  readonly layer?: number;
  readonly details: ErrorDetails;
}

/** The model that a composition is for, and the cap that holds. */
export interface TermLimits {
  readonly hiddenSize: number;
  readonly layerCount: number;
  /** Largest |alpha| of one term, in hundredths. */
  readonly capHundredths: number;
}

/** Largest number of terms: composing is quadratic in it, and nobody can reason about more. */
export const MAX_TERMS = 16;

/** How far a direction's length may be from 1: float32 rounding is 1e-7, a caller's own float16 detour 1e-4. */
export const UNIT_TOLERANCE = 2e-4;

/** Layers where a term acts, ascending, each once. */
export function layersOf(term: Term): number[] {
  return [...new Set(term.layers ?? term.directions.keys())].sort((a, b) => a - b);
}

export function actsAt(term: Term, layer: number): boolean {
  return term.layers === undefined ? term.directions.has(layer) : term.layers.includes(layer);
}

/** Everything that makes terms unfit to compose; empty when they are fit. At most one finding per term and layer. */
export function checkTerms(terms: readonly Term[], limits: TermLimits): Finding[] {
  if (terms.length === 0 || terms.length > MAX_TERMS) {
    const message = `a persona has 1 to ${MAX_TERMS} terms, not ${terms.length}`;
    return [{ reason: "TERM_COUNT", message, details: { terms: terms.length, limit: MAX_TERMS } }];
  }
  const seen = new Set<string>();
  return terms.flatMap((term, index) => {
    const findings = checkTerm(term, index, limits);
    if (seen.has(term.id)) {
      findings.unshift({
        reason: "DUPLICATE_TERM",
        message: `${nameOf(term, index)} is there twice; add the alphas up in one term`,
        term: index,
        details: { id: term.id },
      });
    }
    seen.add(term.id);
    return findings;
  });
}

/** `term 1 "cheerful"`, as messages call a term; numbered from 1, as people count. */
export function nameOf(term: Term, index: number): string {
  return `term ${index + 1} "${term.id}"`;
}

function checkTerm(term: Term, index: number, limits: TermLimits): Finding[] {
  const name = nameOf(term, index);
  const about = (reason: CompositionReason, message: string, details: ErrorDetails): Finding => ({
    reason,
    message: `${name}: ${message}`,
    term: index,
    details: { id: term.id, ...details },
  });
  const alpha = term.alphaHundredths;
  if (!Number.isSafeInteger(alpha)) {
    return [about("ALPHA_NOT_HUNDREDTHS", `alpha ${alpha} is not a whole number of hundredths`, { alpha })];
  }
  if (Math.abs(alpha) > limits.capHundredths) {
    const cap = limits.capHundredths;
    return [about("ALPHA_OVER_CAP", `alpha ${formatAlpha(alpha)} is over the cap ${formatAlpha(cap)}`, { alpha, cap })];
  }
  const named = term.layers?.length ?? term.directions.size;
  if (named > limits.layerCount) {
    const message = `names ${named} layers where the model has ${limits.layerCount}`;
    return [about("LAYER_OUT_OF_RANGE", message, { layers: named, layerCount: limits.layerCount })];
  }
  const layers = layersOf(term);
  if (layers.length === 0) return [about("TERM_COUNT", "acts at no layer", {})];
  if (term.layers !== undefined && layers.length !== term.layers.length) {
    return [about("DUPLICATE_LAYER", "names a layer twice", { layers: term.layers.join(" ") })];
  }
  return layers.flatMap((layer) => {
    const finding = checkLayer(term.directions.get(layer), layer, limits, about);
    return finding === undefined ? [] : [{ ...finding, layer }];
  });
}

function checkLayer(
  at: LayerDirection | undefined,
  layer: number,
  { hiddenSize, layerCount }: TermLimits,
  about: (reason: CompositionReason, message: string, details: ErrorDetails) => Finding,
): Finding | undefined {
  if (!Number.isSafeInteger(layer) || layer < 0 || layer >= layerCount) {
    const message = `layer ${layer} is not one of the model's layers 0 to ${layerCount - 1}`;
    return about("LAYER_OUT_OF_RANGE", message, { layer, layerCount });
  }
  if (at === undefined) return about("LAYER_NOT_IN_VECTOR", `the vector has no direction at layer ${layer}`, { layer });
  const { direction, referenceNorm } = at;
  if (direction.length !== hiddenSize) {
    const message = `layer ${layer}: ${direction.length} numbers where the model's hidden size is ${hiddenSize}`;
    return about("VECTOR_WIDTH_MISMATCH", message, { layer, width: direction.length, hiddenSize });
  }
  if (!isFiniteVector(direction))
    return about("VECTOR_NOT_FINITE", `layer ${layer}: NaN or Inf in the direction`, { layer });
  const length = norm(direction);
  if (Math.abs(length - 1) > UNIT_TOLERANCE) {
    return about("VECTOR_NOT_UNIT", `layer ${layer}: length ${length} where a direction has length 1`, {
      layer,
      length,
    });
  }
  if (!(referenceNorm > 0 && Number.isFinite(referenceNorm))) {
    const message = `layer ${layer}: reference norm ${referenceNorm} is not a positive number`;
    return about("REFERENCE_NORM_INVALID", message, { layer, referenceNorm });
  }
  return undefined;
}
