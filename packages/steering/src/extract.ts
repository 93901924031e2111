import { type ContrastivePairs, checkActivations } from "./contrastive-pairs.ts";
import {
  type Differences,
  differenceAxis,
  differencesOf,
  type ExtractionMethod,
  majoritySign,
  pairwiseCosine,
} from "./difference-axis.ts";
import { SteeringError } from "./error.ts";
import type { Baseline, Extraction, LayerQuality } from "./extraction.ts";
import { heldOutSeparation } from "./separation.ts";
import { cosine, MIN_NORM, norm, normalize, subtractComponent, type Vector } from "./vector-math.ts";

/**
 * Extraction: contrastive activations become one unit direction per layer, with the figures that say what it is worth.
 *
 * Differences of the pairs → an axis (by method) → Gram–Schmidt against the baseline's mean activation → unit length.
 * Nothing is random: the same inputs give the same bytes.
 */

/** Changes whenever the same inputs give other bytes; part of a version's provenance. */
export const EXTRACTOR_VERSION = "1";

export interface ExtractOptions {
  readonly pairs: ContrastivePairs;
  readonly baseline: Baseline;
  /** @default "MEAN_DIFF" */
  readonly method?: ExtractionMethod;
  /** 0-based layers to extract at. @default every layer but the last, whose residual only feeds the final norm */
  readonly layers?: readonly number[];
}

/**
 * Extract directions. Judge them with `requireSeparation` before they are used: noise has a direction too.
 *
 * @throws SteeringError TOO_FEW_PAIRS, TOO_MANY_PAIRS, SHAPE_MISMATCH, LAYER_OUT_OF_RANGE, DUPLICATE_LAYER,
 *   VECTOR_WIDTH_MISMATCH, VECTOR_NOT_FINITE, REFERENCE_NORM_INVALID; DEGENERATE_AXIS when the baseline mean is zero, or
 *   the pairs do not differ beside it
 */
export function extract(options: ExtractOptions): Extraction {
  const { pairs, baseline, method = "MEAN_DIFF" } = options;
  const { pairCount, layerCount, hiddenSize, layers } = checkActivations(pairs, baseline, options.layers);
  return {
    method,
    pairCount,
    hiddenSize,
    layerCount,
    layers: layers.map((layer) => {
      const positive = pairs.positive.map((side) => side[layer] as Float32Array);
      const negative = pairs.negative.map((side) => side[layer] as Float32Array);
      const extracted = extractLayer(positive, negative, baseline.means[layer] as Vector, method, layer);
      return { layer, ...extracted, referenceNorm: Math.fround(baseline.referenceNorms[layer] as number) };
    }),
  };
}

function extractLayer(
  positive: readonly Float32Array[],
  negative: readonly Float32Array[],
  baselineMean: Vector,
  method: ExtractionMethod,
  layer: number,
): { direction: Float32Array; quality: LayerQuality } {
  if (norm(baselineMean) < MIN_NORM) {
    throw new SteeringError("DEGENERATE_AXIS", `layer ${layer}: the baseline mean is zero`, { layer });
  }
  const differences = differencesOf(positive, negative);
  const axisOf = (members: readonly number[]) => orientedAxis(differences, members, baselineMean, method);
  const all = positive.map((_, pair) => pair);
  const whole = axisOf(all);
  if (whole === undefined) {
    const message = `layer ${layer}: the pairs do not differ, or only along the baseline mean`;
    throw new SteeringError("DEGENERATE_AXIS", message, { layer, pairs: positive.length });
  }
  const even = axisOf(all.filter((pair) => pair % 2 === 0));
  const odd = axisOf(all.filter((pair) => pair % 2 === 1));
  return {
    direction: normalize(whole.axis),
    quality: {
      pairwiseCosine: pairwiseCosine(differences),
      ...heldOutSeparation(positive, negative, (members) => axisOf(members)?.axis),
      splitHalfCosine: even === undefined || odd === undefined ? 0 : cosine(even.axis, odd.axis),
      normBefore: norm(whole.axis),
      removedCosine: whole.removedCosine,
    },
  };
}

/**
 * Share of an axis below which what orthogonalisation leaves is rounding: activations are float32, whose rounding is 6e-8
 * of each number and adds up over the hidden size.
 */
const MIN_AXIS_REMAINDER = 1e-5;

function orientedAxis(
  differences: Differences,
  members: readonly number[],
  baselineMean: Vector,
  method: ExtractionMethod,
): { axis: Float64Array; removedCosine: number } | undefined {
  const axis = differenceAxis(differences, members, method);
  const length = norm(axis);
  const removedCosine = cosine(axis, baselineMean);
  subtractComponent(axis, baselineMean);
  const left = norm(axis);
  if (left < MIN_NORM || left < MIN_AXIS_REMAINDER * length) return undefined;
  const sign = majoritySign(axis, differences, members);
  if (sign < 0) for (let i = 0; i < axis.length; i++) axis[i] = -(axis[i] as number);
  return { axis, removedCosine: sign * removedCosine };
}
