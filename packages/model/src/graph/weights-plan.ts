import type { DecoderSpec } from "./decoder-spec.ts";
import { FLOAT32, type MatrixFormat, type Precision } from "./precision.ts";

/** A tensor of the checkpoint, as the architecture has it. */
export interface SourceTensor {
  readonly name: string;
  readonly shape: readonly number[];
}

/** How a checkpoint cuts the same weights into tensors. */
export interface SourceLayout {
  /** Query, key and value are one tensor, gate and up another (Phi-3). */
  readonly fusedProjections: boolean;
}

/** A weight of the package and the tensors it is made of. */
export type PlannedWeight =
  | {
      readonly kind: "vector";
      readonly name: string;
      /** Concatenated, float32. */
      readonly sources: readonly SourceTensor[];
      /** Stored as 1 + value. */
      readonly plusOne: boolean;
    }
  | {
      readonly kind: "matrix";
      readonly name: string;
      readonly out: number;
      readonly in: number;
      /** Each `[some of out, in]`, stacked along out. */
      readonly sources: readonly SourceTensor[];
      /**
       * `rows`: `[out, in]`, as in the checkpoint. `columns`: `[in, out]`, as MatMul reads it; float formats only.
       */
      readonly layout: "rows" | "columns";
      readonly format: MatrixFormat;
    };

/** Names of the weights of a package. */
export const WEIGHT = {
  embedding: "embedding",
  head: "head",
  finalNorm: "final_norm",
  attentionNorm: (layer: number) => `layers.${layer}.attention_norm`,
  qkv: (layer: number) => `layers.${layer}.qkv`,
  qkvBias: (layer: number) => `layers.${layer}.qkv_bias`,
  queryNorm: (layer: number) => `layers.${layer}.query_norm`,
  keyNorm: (layer: number) => `layers.${layer}.key_norm`,
  attentionOut: (layer: number) => `layers.${layer}.attention_out`,
  attentionOutBias: (layer: number) => `layers.${layer}.attention_out_bias`,
  postAttentionNorm: (layer: number) => `layers.${layer}.post_attention_norm`,
  mlpNorm: (layer: number) => `layers.${layer}.mlp_norm`,
  gateUp: (layer: number) => `layers.${layer}.gate_up`,
  gateUpBias: (layer: number) => `layers.${layer}.gate_up_bias`,
  down: (layer: number) => `layers.${layer}.down`,
  downBias: (layer: number) => `layers.${layer}.down_bias`,
  postMlpNorm: (layer: number) => `layers.${layer}.post_mlp_norm`,
} as const;

/**
 * The weights of a decoder: which, in which order, from which tensors of a Hugging Face checkpoint.
 *
 * Projections that read the same input are stored as one matrix, so that a step runs one product where it can. The sources
 * of all weights together are exactly the tensors the checkpoint must have.
 */
export function planWeights(
  spec: DecoderSpec,
  source: SourceLayout = { fusedProjections: false },
  precision: Precision = FLOAT32,
): PlannedWeight[] {
  const { hidden, heads, kvHeads, headDim, intermediate, vocabulary, attention } = spec;
  const [queries, keys] = [heads * headDim, kvHeads * headDim];
  const norm = (name: string, tensor: string, length = hidden): PlannedWeight => ({
    kind: "vector",
    name,
    sources: [{ name: `${tensor}.weight`, shape: [length] }],
    plusOne: spec.normPlusOne,
  });
  const plan: PlannedWeight[] = [
    {
      kind: "matrix",
      name: WEIGHT.embedding,
      out: vocabulary,
      in: hidden,
      sources: [{ name: "model.embed_tokens.weight", shape: [vocabulary, hidden] }],
      layout: "rows",
      format: precision.embedding,
    },
  ];
  for (let layer = 0; layer < spec.layers; layer++) {
    const at = (name: string) => `model.layers.${layer}.${name}`;
    /** One product of `parts` that read the same `[in]`, with their biases if they have them. */
    const product = (name: string, biasName: string | undefined, from: number, parts: readonly [string, number][]) => {
      plan.push({
        kind: "matrix",
        name,
        out: parts.reduce((sum, [, rows]) => sum + rows, 0),
        in: from,
        sources: parts.map(([part, rows]) => ({ name: `${at(part)}.weight`, shape: [rows, from] })),
        layout: precision.linear.kind === "nbits" ? "rows" : "columns",
        format: precision.linear,
      });
      if (biasName === undefined) return;
      const sources = parts.map(([part, rows]) => ({ name: `${at(part)}.bias`, shape: [rows] }));
      plan.push({ kind: "vector", name: biasName, sources, plusOne: false });
    };
    plan.push(norm(WEIGHT.attentionNorm(layer), at("input_layernorm")));
    product(
      WEIGHT.qkv(layer),
      attention.qkvBias ? WEIGHT.qkvBias(layer) : undefined,
      hidden,
      source.fusedProjections
        ? [["self_attn.qkv_proj", queries + 2 * keys]]
        : [
            ["self_attn.q_proj", queries],
            ["self_attn.k_proj", keys],
            ["self_attn.v_proj", keys],
          ],
    );
    if (attention.queryKeyNorm) {
      plan.push(norm(WEIGHT.queryNorm(layer), at("self_attn.q_norm"), headDim));
      plan.push(norm(WEIGHT.keyNorm(layer), at("self_attn.k_norm"), headDim));
    }
    product(WEIGHT.attentionOut(layer), attention.outBias ? WEIGHT.attentionOutBias(layer) : undefined, queries, [
      ["self_attn.o_proj", hidden],
    ]);
    if (spec.sandwichNorms) {
      plan.push(
        norm(WEIGHT.postAttentionNorm(layer), at("post_attention_layernorm")),
        norm(WEIGHT.mlpNorm(layer), at("pre_feedforward_layernorm")),
        norm(WEIGHT.postMlpNorm(layer), at("post_feedforward_layernorm")),
      );
    } else {
      plan.push(norm(WEIGHT.mlpNorm(layer), at("post_attention_layernorm")));
    }
    product(
      WEIGHT.gateUp(layer),
      spec.mlpBias ? WEIGHT.gateUpBias(layer) : undefined,
      hidden,
      source.fusedProjections
        ? [["mlp.gate_up_proj", 2 * intermediate]]
        : [
            ["mlp.gate_proj", intermediate],
            ["mlp.up_proj", intermediate],
          ],
    );
    product(WEIGHT.down(layer), spec.mlpBias ? WEIGHT.downBias(layer) : undefined, intermediate, [
      ["mlp.down_proj", hidden],
    ]);
  }
  plan.push(norm(WEIGHT.finalNorm, "model.norm"));
  if (needsHead(spec, precision)) {
    const name = spec.tiedEmbeddings ? "model.embed_tokens.weight" : "lm_head.weight";
    plan.push({
      kind: "matrix",
      name: WEIGHT.head,
      out: vocabulary,
      in: hidden,
      sources: [{ name, shape: [vocabulary, hidden] }],
      layout: "rows",
      format: precision.head,
    });
  }
  return plan;
}

/** Whether the head is a matrix of its own: a tied one only where its format is not the embedding's. */
export function needsHead(spec: Pick<DecoderSpec, "tiedEmbeddings">, precision: Precision): boolean {
  return !spec.tiedEmbeddings || JSON.stringify(precision.head) !== JSON.stringify(precision.embedding);
}
