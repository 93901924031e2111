/**
 * What a decoder computes, without its weights: everything the graphs depend on, and nothing else.
 *
 * Read from a checkpoint's config.json; part of what the model checksum covers.
 */
export interface DecoderSpec {
  readonly architecture: "llama";
  /** Decoder blocks. */
  readonly layers: number;
  /** Width of the residual stream. */
  readonly hidden: number;
  /** Query heads; a multiple of `kvHeads`. */
  readonly heads: number;
  /** Key/value heads (grouped-query attention where fewer than `heads`). */
  readonly kvHeads: number;
  /** Width of a head; a multiple of 16, as the runtime's rotary attention needs. */
  readonly headDim: number;
  /** Width of the gated MLP. */
  readonly intermediate: number;
  readonly vocabulary: number;
  /** Positions a sequence may have, prompt and reply together. */
  readonly contextTokens: number;
  readonly ropeTheta: number;
  readonly rmsNormEps: number;
  /** The output head reads the embedding matrix. */
  readonly tiedEmbeddings: boolean;
}
