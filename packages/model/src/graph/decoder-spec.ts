/**
 * What a decoder computes, without its weights: everything the graphs depend on, and nothing else.
 *
 * One description for every supported architecture: each is a choice of these parts. Read from a checkpoint's config.json;
 * part of what the model checksum covers.
 */
export interface DecoderSpec {
  /** `model_type` of the checkpoint, for people; what is computed follows from the other fields alone. */
  readonly architecture: string;
  /** Decoder blocks. */
  readonly layers: number;
  /** Width of the residual stream. */
  readonly hidden: number;
  /** Query heads; a multiple of `kvHeads`. */
  readonly heads: number;
  /** Key/value heads (grouped-query attention where fewer than `heads`). */
  readonly kvHeads: number;
  /** Width of a head; a multiple of 8. */
  readonly headDim: number;
  /** Width of the gated MLP. */
  readonly intermediate: number;
  readonly vocabulary: number;
  /** Positions a sequence may have, prompt and reply together. */
  readonly contextTokens: number;
  /** Added to the mean square in every norm. */
  readonly normEps: number;
  /** Norms multiply by 1 + weight (Gemma) instead of weight; folded into the stored weights. */
  readonly normPlusOne: boolean;
  /** Norms also after attention and after the MLP, before each addition (Gemma). */
  readonly sandwichNorms: boolean;
  /** Factor on the embeddings; 1 for none. */
  readonly embeddingScale: number;
  /** The output head reads the embedding matrix. */
  readonly tiedEmbeddings: boolean;
  /** Logits become `cap · tanh(logits / cap)`; null for none. */
  readonly logitSoftCap: number | null;
  readonly activation: "silu" | "gelu-tanh";
  readonly mlpBias: boolean;
  readonly attention: AttentionSpec;
  /** Rotary tables; layers refer to them by index. */
  readonly ropes: readonly RopeSpec[];
  /** One entry per layer. */
  readonly layerKinds: readonly LayerKind[];
}

export interface AttentionSpec {
  /** Factor on query · key, usually `headDim ** -0.5`. */
  readonly scale: number;
  /** Biases on the query, key and value projections. */
  readonly qkvBias: boolean;
  /** Bias on the output projection. */
  readonly outBias: boolean;
  /** A norm over each head's query and key before the rotary embedding (Qwen3, Gemma 3). */
  readonly queryKeyNorm: boolean;
  /** Scores become `cap · tanh(scores / cap)` before the softmax; null for none. */
  readonly softCap: number | null;
}

export interface LayerKind {
  /** Positions a query sees, its own included (sliding window, arXiv:2004.05150); null for all before it. */
  readonly window: number | null;
  /** Index into `ropes`; null for a layer without positions (arXiv:2501.18795). */
  readonly rope: number | null;
}

/** A rotary position embedding (RoFormer, arXiv:2104.09864) and how it is stretched beyond the training range. */
export interface RopeSpec {
  readonly theta: number;
  /** Leading elements of a head that are rotated, even; `headDim` unless rotary is partial. */
  readonly rotaryDim: number;
  readonly scaling: RopeScaling;
}

export type RopeScaling =
  | { readonly kind: "none" }
  /** Positions divided by `factor` (arXiv:2306.15595). */
  | { readonly kind: "linear"; readonly factor: number }
  /** Low frequencies divided by `factor`, high kept, a ramp between (Llama 3.1). */
  | {
      readonly kind: "llama3";
      readonly factor: number;
      readonly lowFreqFactor: number;
      readonly highFreqFactor: number;
      readonly originalContext: number;
    }
  /** Interpolation by parts with a factor on cos and sin (YaRN, arXiv:2309.00071). */
  | {
      readonly kind: "yarn";
      readonly factor: number;
      readonly originalContext: number;
      readonly betaFast: number;
      readonly betaSlow: number;
      readonly truncate: boolean;
      readonly attentionFactor: number;
    }
  /**
   * A divisor per frequency and a factor on cos and sin (LongRoPE, arXiv:2402.13753). Short or long factors are chosen once,
   * by the context the model is imported for: keys in the cache cannot change their rotation when a sequence grows.
   */
  | { readonly kind: "longrope"; readonly factors: readonly number[]; readonly attentionFactor: number };
