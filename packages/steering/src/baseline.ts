import { SteeringError } from "./error.ts";
import type { Baseline } from "./extraction.ts";
import { addScaled, isFiniteVector } from "./vector-math.ts";

/** Tokens after which a median no longer moves; bounds the memory to 4 bytes a token and layer. */
export const MAX_BASELINE_TOKENS = 1 << 17;

/** Pooled residuals of one unsteered sample, without its first position (the attention sink has a norm of its own). */
export interface BaselineSample {
  /** L2 norms of the residuals, float32[tokens × layers], row-major. */
  readonly norms: Float32Array;
  /** Sum of the residuals over the same tokens, float32[layers × hidden], row-major. */
  readonly sum: Float32Array;
}

/**
 * Unsteered behaviour over representative prompts, sample by sample: mean activation and median norm per layer.
 *
 * Sums run in float64 in the order of the samples. Another order changes the last bits of a mean, so callers that want the
 * same bytes add in the same order; the median does not depend on it.
 */
export class BaselineAccumulator {
  readonly #layerCount: number;
  readonly #hiddenSize: number;
  readonly #sums: Float64Array[];
  readonly #norms: Float32Array[] = [];
  #tokens = 0;

  /** @throws RangeError when the shape is no model's */
  constructor(shape: { readonly layerCount: number; readonly hiddenSize: number }) {
    const { layerCount, hiddenSize } = shape;
    if (!Number.isSafeInteger(layerCount) || layerCount < 1 || !Number.isSafeInteger(hiddenSize) || hiddenSize < 1) {
      throw new RangeError(`${layerCount} layers of ${hiddenSize} are no model`);
    }
    this.#layerCount = layerCount;
    this.#hiddenSize = hiddenSize;
    this.#sums = Array.from({ length: layerCount }, () => new Float64Array(hiddenSize));
  }

  /** Tokens added so far. */
  get tokenCount(): number {
    return this.#tokens;
  }

  /**
   * Add one sample. It is copied; on an error nothing was added.
   *
   * @throws SteeringError SHAPE_MISMATCH, VECTOR_NOT_FINITE, BASELINE_TOO_LARGE
   */
  add({ norms, sum }: BaselineSample): void {
    const tokens = norms.length / this.#layerCount;
    if (!Number.isInteger(tokens) || sum.length !== this.#layerCount * this.#hiddenSize) {
      const message = `${norms.length} norms and ${sum.length} sums do not fit ${this.#layerCount} layers of ${this.#hiddenSize}`;
      throw new SteeringError("SHAPE_MISMATCH", message, { norms: norms.length, sum: sum.length });
    }
    if (!isFiniteVector(norms) || !isFiniteVector(sum) || norms.some((length) => length < 0)) {
      throw new SteeringError("VECTOR_NOT_FINITE", "NaN, Inf or a negative norm in a baseline sample");
    }
    if (this.#tokens + tokens > MAX_BASELINE_TOKENS) {
      const message = `a baseline takes at most ${MAX_BASELINE_TOKENS} tokens`;
      throw new SteeringError("BASELINE_TOO_LARGE", message, {
        tokens: this.#tokens + tokens,
        limit: MAX_BASELINE_TOKENS,
      });
    }
    for (const [layer, total] of this.#sums.entries()) {
      addScaled(total, 1, sum.subarray(layer * this.#hiddenSize, (layer + 1) * this.#hiddenSize));
    }
    this.#norms.push(norms.slice());
    this.#tokens += tokens;
  }

  /**
   * The baseline of all samples added so far; more may be added after.
   *
   * @returns means float64[layers][hidden], reference norms float32[layers]
   * @throws SteeringError BASELINE_EMPTY when no token was added
   */
  finish(): Baseline & { readonly tokenCount: number } {
    if (this.#tokens === 0) throw new SteeringError("BASELINE_EMPTY", "a baseline needs at least one token");
    return {
      tokenCount: this.#tokens,
      means: this.#sums.map((total) => total.map((x) => x / this.#tokens)),
      referenceNorms: Float32Array.from(this.#sums, (_, layer) => median(this.#normsAt(layer))),
    };
  }

  #normsAt(layer: number): Float32Array {
    const result = new Float32Array(this.#tokens);
    let next = 0;
    for (const norms of this.#norms) {
      for (let i = layer; i < norms.length; i += this.#layerCount) result[next++] = norms[i] as number;
    }
    return result;
  }
}

/** Median; of an even count the mean of the two in the middle. Sorts its argument. */
function median(values: Float32Array): number {
  values.sort();
  const middle = values.length >> 1;
  const upper = values[middle] as number;
  return values.length % 2 === 1 ? upper : ((values[middle - 1] as number) + upper) / 2;
}
