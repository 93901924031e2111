import type { DecoderSpec } from "../graph/decoder-spec.ts";

/** Names and shapes of the tensors that a Llama checkpoint must have; projections are `[out, in]`. */
export function llamaTensors(spec: DecoderSpec): ReadonlyMap<string, readonly number[]> {
  const { hidden, heads, kvHeads, headDim, intermediate, vocabulary } = spec;
  const tensors = new Map<string, readonly number[]>([
    ["model.embed_tokens.weight", [vocabulary, hidden]],
    ["model.norm.weight", [hidden]],
  ]);
  if (!spec.tiedEmbeddings) tensors.set("lm_head.weight", [vocabulary, hidden]);
  for (let layer = 0; layer < spec.layers; layer++) {
    const add = (name: string, shape: readonly number[]) => tensors.set(`model.layers.${layer}.${name}.weight`, shape);
    add("input_layernorm", [hidden]);
    add("self_attn.q_proj", [heads * headDim, hidden]);
    add("self_attn.k_proj", [kvHeads * headDim, hidden]);
    add("self_attn.v_proj", [kvHeads * headDim, hidden]);
    add("self_attn.o_proj", [hidden, heads * headDim]);
    add("post_attention_layernorm", [hidden]);
    add("mlp.gate_proj", [intermediate, hidden]);
    add("mlp.up_proj", [intermediate, hidden]);
    add("mlp.down_proj", [hidden, intermediate]);
  }
  return tensors;
}

/** Buffers that old versions of transformers saved beside the weights; every reader recomputes them. */
const RECOMPUTED = /^model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq$/;

/** Whether a tensor beyond {@link llamaTensors} can be left out without changing what the model computes. */
export function isRecomputedTensor(name: string): boolean {
  return RECOMPUTED.test(name);
}
