import type { DecoderSpec } from "../graph/decoder-spec.ts";
import { planWeights, type SourceLayout } from "../graph/weights-plan.ts";

/** Names and shapes of the tensors that a checkpoint must have: those that the weights of the package are made of. */
export function expectedTensors(spec: DecoderSpec, source: SourceLayout): ReadonlyMap<string, readonly number[]> {
  const sources = planWeights(spec, source).flatMap((weight) => weight.sources);
  return new Map(sources.map(({ name, shape }) => [name, shape]));
}

/** Output head that some tools save although the model reads the embedding in its place. */
export const TIED_HEAD = "lm_head.weight";

/** What {@link TIED_HEAD} is tied to. */
export const EMBEDDING = "model.embed_tokens.weight";

/** Buffers that old versions of transformers saved beside the weights; every reader recomputes them. */
const RECOMPUTED = /^model\.layers\.\d{1,4}\.self_attn\.rotary_emb\.inv_freq$/;

/** Whether a tensor beyond {@link expectedTensors} can be left out without changing what the model computes. */
export function isRecomputedTensor(name: string): boolean {
  return RECOMPUTED.test(name);
}
