import type { ExtractionMethod } from "./difference-axis.ts";
import type { Vector } from "./vector-math.ts";

/** What an unsteered model does: see `BaselineAccumulator`. */
export interface Baseline {
  /** Mean activation, [layers][hidden]. */
  readonly means: readonly Vector[];
  /** Median L2 norm of the residual, [layers]. */
  readonly referenceNorms: ArrayLike<number>;
}

/** What a direction is worth at one layer. */
export interface LayerQuality {
  /** Mean cosine between the differences of two pairs. */
  readonly pairwiseCosine: number;
  /** Chance that a held-out positive lies further along the direction than a held-out negative, 0 to 1. */
  readonly auc: number;
  /** Share of held-out pairs whose positive lies further along the direction than its negative, 0 to 1. */
  readonly rightSignShare: number;
  /** Cosine between the directions of the even and of the odd pairs. */
  readonly splitHalfCosine: number;
  /** Length of the axis before normalisation, in residual units; beside the reference norm, a natural size of alpha. */
  readonly normBefore: number;
  /** Cosine between the axis and the baseline mean: what orthogonalisation removed. */
  readonly removedCosine: number;
}

/** A direction and what came of it at one layer. */
export interface LayerExtraction {
  readonly layer: number;
  /** Unit vector, float32[hidden]. */
  readonly direction: Float32Array;
  /** As float32, which is how it travels. */
  readonly referenceNorm: number;
  readonly quality: LayerQuality;
}

export interface Extraction {
  readonly method: ExtractionMethod;
  readonly pairCount: number;
  readonly hiddenSize: number;
  /** Layers of the model. */
  readonly layerCount: number;
  /** Ascending by layer. */
  readonly layers: readonly LayerExtraction[];
}
