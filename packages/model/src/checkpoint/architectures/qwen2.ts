import { z } from "zod";
import { defineArchitecture } from "./architecture.ts";
import { flag, headCount, headSize, only, ROPE_FIELDS, tokenIds, windowSize } from "./fields.ts";
import { evenHeadDim, LAYER_TYPES, layerKinds } from "./layers.ts";
import { plainRope } from "./rope-settings.ts";

/** Where Qwen's window is in force: in the layers from `max_window_layers` on, if `use_sliding_window` says so at all. */
export const QWEN_WINDOW_FIELDS = {
  use_sliding_window: flag.default(false),
  sliding_window: windowSize.nullable().default(4096),
  max_window_layers: z.int().min(0).max(4096).default(28),
  layer_types: LAYER_TYPES,
} as const;

/** Qwen2 and 2.5 (arXiv:2407.10671): biases on query, key and value, always. */
export const qwen2 = defineArchitecture({
  modelType: "qwen2",
  className: "Qwen2",
  fields: {
    ...ROPE_FIELDS,
    ...QWEN_WINDOW_FIELDS,
    num_key_value_heads: headCount.nullable().default(32),
    head_dim: headSize.nullish(),
    hidden_act: z.literal("silu").default("silu"),
    tie_word_embeddings: flag.default(false),
    bos_token_id: tokenIds.optional(),
    eos_token_id: tokenIds.optional(),
    mlp_bias: only(false),
    use_mrope: only(false),
  },
  decoder(config, contextTokens) {
    const headDim = config.head_dim ?? evenHeadDim(config);
    return {
      kvHeads: config.num_key_value_heads ?? config.num_attention_heads,
      headDim,
      tiedEmbeddings: config.tie_word_embeddings,
      attention: { qkvBias: true },
      ropes: [plainRope(config, { headDim, contextTokens })],
      layerKinds: qwenLayers(config),
    };
  },
});

export function qwenLayers(config: {
  readonly num_hidden_layers: number;
  readonly use_sliding_window: boolean;
  readonly sliding_window: number | null;
  readonly max_window_layers: number;
  readonly layer_types?: z.infer<typeof LAYER_TYPES>;
}) {
  const window = config.use_sliding_window ? config.sliding_window : null;
  return layerKinds(
    config,
    window,
    (layer) => window !== null && layer >= config.max_window_layers,
    () => ({ rope: 0 }),
  );
}
