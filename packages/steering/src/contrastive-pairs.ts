import { SteeringError } from "./error.ts";
import { isFiniteVector, type Vector } from "./vector-math.ts";

/** Activations of contrastive pairs: the same prompt with and without the concept. */
export interface ContrastivePairs {
  /** float32[pairs][layers][hidden] */
  readonly positive: readonly (readonly Float32Array[])[];
  /** The other side of each pair, in the same order. */
  readonly negative: readonly (readonly Float32Array[])[];
}

/** Both split halves need two pairs. What so few can show is judged by `requireSeparation`. */
export const MIN_PAIRS = 4;

/** The decompositions are cubic in the pairs: at 512, PCA takes a few seconds per layer, at 1024 a minute. */
export const MAX_PAIRS = 512;

interface ActivationShape {
  readonly pairCount: number;
  readonly layerCount: number;
  readonly hiddenSize: number;
  /** Layers to extract at, ascending. */
  readonly layers: readonly number[];
}

/**
 * Check everything that extraction takes as given: shapes, layers, finite numbers at the layers in question.
 *
 * @throws SteeringError, see `extract`
 */
export function checkActivations(
  pairs: ContrastivePairs,
  baseline: { readonly means: readonly Vector[]; readonly referenceNorms: ArrayLike<number> },
  wanted: readonly number[] | undefined,
): ActivationShape {
  const pairCount = requirePairCount(pairs);
  const layerCount = baseline.means.length;
  const hiddenSize = baseline.means[0]?.length ?? 0;
  if (layerCount === 0 || hiddenSize === 0 || baseline.referenceNorms.length !== layerCount) {
    const message = `a baseline has a mean and a reference norm per layer, not ${layerCount} means and ${baseline.referenceNorms.length} norms`;
    throw new SteeringError("SHAPE_MISMATCH", message, { means: layerCount, norms: baseline.referenceNorms.length });
  }
  const layers = requireLayers(wanted, layerCount);
  for (const layer of layers) {
    requireVector(baseline.means[layer], hiddenSize, `baseline mean at layer ${layer}`);
    const referenceNorm = baseline.referenceNorms[layer] as number;
    if (!(referenceNorm > 0 && Number.isFinite(Math.fround(referenceNorm)))) {
      const message = `layer ${layer}: reference norm ${referenceNorm} is not a positive number`;
      throw new SteeringError("REFERENCE_NORM_INVALID", message, { layer, referenceNorm });
    }
  }
  for (const [name, side] of Object.entries({ positive: pairs.positive, negative: pairs.negative })) {
    for (const [pair, activations] of side.entries()) {
      if (activations.length !== layerCount) {
        const message = `${name} of pair ${pair + 1}: ${activations.length} layers where the baseline has ${layerCount}`;
        throw new SteeringError("SHAPE_MISMATCH", message, { pair, layers: activations.length, layerCount });
      }
      for (const layer of layers) {
        requireVector(activations[layer], hiddenSize, `${name} of pair ${pair + 1} at layer ${layer}`);
      }
    }
  }
  return { pairCount, layerCount, hiddenSize, layers };
}

function requirePairCount({ positive, negative }: ContrastivePairs): number {
  const pairs = positive.length;
  if (negative.length !== pairs) {
    const message = `${pairs} positives and ${negative.length} negatives do not pair up`;
    throw new SteeringError("SHAPE_MISMATCH", message, { positives: pairs, negatives: negative.length });
  }
  if (pairs < MIN_PAIRS) {
    const message = `extraction needs at least ${MIN_PAIRS} pairs, and has ${pairs}`;
    throw new SteeringError("TOO_FEW_PAIRS", message, { pairs, limit: MIN_PAIRS });
  }
  if (pairs > MAX_PAIRS) {
    const message = `extraction takes at most ${MAX_PAIRS} pairs, and has ${pairs}`;
    throw new SteeringError("TOO_MANY_PAIRS", message, { pairs, limit: MAX_PAIRS });
  }
  return pairs;
}

function requireLayers(wanted: readonly number[] | undefined, layerCount: number): number[] {
  // A model of one block has no other layer.
  const layers = wanted ?? Array.from({ length: Math.max(1, layerCount - 1) }, (_, layer) => layer);
  if (layers.length === 0) throw new SteeringError("LAYER_OUT_OF_RANGE", "no layer to extract at", { layerCount });
  for (const layer of layers) {
    if (!Number.isSafeInteger(layer) || layer < 0 || layer >= layerCount) {
      const message = `layer ${layer} is not one of the layers 0 to ${layerCount - 1}`;
      throw new SteeringError("LAYER_OUT_OF_RANGE", message, { layer, layerCount });
    }
  }
  if (new Set(layers).size !== layers.length) {
    throw new SteeringError("DUPLICATE_LAYER", `layers ${layers.join(", ")} name one twice`, { layerCount });
  }
  return layers.toSorted((a, b) => a - b);
}

function requireVector(vector: Vector | undefined, hiddenSize: number, what: string): void {
  if (vector?.length !== hiddenSize) {
    const message = `${what}: ${vector?.length ?? 0} numbers where the hidden size is ${hiddenSize}`;
    throw new SteeringError("VECTOR_WIDTH_MISMATCH", message, { width: vector?.length ?? 0, hiddenSize });
  }
  if (!isFiniteVector(vector)) throw new SteeringError("VECTOR_NOT_FINITE", `${what}: NaN or Inf`);
}
