import type { DecoderSpec } from "./decoder-spec.ts";
import { ropeCaches } from "./rope.ts";

/** A tensor of the package's weights file and where its values come from. */
export type PlannedWeight = {
  readonly name: string;
  readonly shape: readonly number[];
} & (
  | {
      /** Tensors of the checkpoint, concatenated along the output axis. */
      readonly sources: readonly string[];
      /** `transposed`: each source is `[out, in]` and is stored `[in, out]`, as MatMul reads it. */
      readonly layout: "as-is" | "transposed";
    }
  | { readonly computed: Float32Array }
);

/** Names of the tensors in the weights file. */
export const WEIGHT = {
  embedding: "embedding",
  head: "head",
  finalNorm: "final_norm",
  ropeCos: "rope.cos",
  ropeSin: "rope.sin",
  attentionNorm: (layer: number) => `layers.${layer}.attention_norm`,
  qkv: (layer: number) => `layers.${layer}.qkv`,
  attentionOut: (layer: number) => `layers.${layer}.attention_out`,
  mlpNorm: (layer: number) => `layers.${layer}.mlp_norm`,
  gateUp: (layer: number) => `layers.${layer}.gate_up`,
  down: (layer: number) => `layers.${layer}.down`,
} as const;

/**
 * The weights file of a decoder: which tensors, in which order, from which tensors of a Hugging Face checkpoint.
 *
 * Projections that read the same input are stored as one matrix, so that a step runs one product where it can.
 */
export function planWeights(spec: DecoderSpec): PlannedWeight[] {
  const { hidden, heads, kvHeads, headDim, intermediate, vocabulary } = spec;
  const rope = ropeCaches(spec);
  const ropeShape = [spec.contextTokens, headDim / 2];
  const plan: PlannedWeight[] = [
    asIs(WEIGHT.embedding, [vocabulary, hidden], "model.embed_tokens.weight"),
    { name: WEIGHT.ropeCos, shape: ropeShape, computed: rope.cos },
    { name: WEIGHT.ropeSin, shape: ropeShape, computed: rope.sin },
  ];
  for (let layer = 0; layer < spec.layers; layer++) {
    const source = (name: string) => `model.layers.${layer}.${name}.weight`;
    plan.push(
      asIs(WEIGHT.attentionNorm(layer), [hidden], source("input_layernorm")),
      transposed(
        WEIGHT.qkv(layer),
        [hidden, (heads + 2 * kvHeads) * headDim],
        ["q_proj", "k_proj", "v_proj"].map((name) => source(`self_attn.${name}`)),
      ),
      transposed(WEIGHT.attentionOut(layer), [heads * headDim, hidden], [source("self_attn.o_proj")]),
      asIs(WEIGHT.mlpNorm(layer), [hidden], source("post_attention_layernorm")),
      transposed(
        WEIGHT.gateUp(layer),
        [hidden, 2 * intermediate],
        ["gate_proj", "up_proj"].map((name) => source(`mlp.${name}`)),
      ),
      transposed(WEIGHT.down(layer), [intermediate, hidden], [source("mlp.down_proj")]),
    );
  }
  plan.push(asIs(WEIGHT.finalNorm, [hidden], "model.norm.weight"));
  if (!spec.tiedEmbeddings) plan.push(asIs(WEIGHT.head, [vocabulary, hidden], "lm_head.weight"));
  return plan;
}

function asIs(name: string, shape: readonly number[], source: string): PlannedWeight {
  return { name, shape, sources: [source], layout: "as-is" };
}

function transposed(name: string, shape: readonly number[], sources: readonly string[]): PlannedWeight {
  return { name, shape, sources, layout: "transposed" };
}
