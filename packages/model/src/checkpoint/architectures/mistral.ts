import { z } from "zod";
import { defineArchitecture } from "./architecture.ts";
import { flag, headCount, headSize, only, ROPE_FIELDS, tokenIds, windowSize } from "./fields.ts";
import { evenHeadDim, sameLayers } from "./layers.ts";
import { plainRope } from "./rope-settings.ts";

/** Mistral (arXiv:2310.06825): one window for all layers, in force unless `sliding_window` is null. */
export const mistral = defineArchitecture({
  modelType: "mistral",
  className: "Mistral",
  fields: {
    ...ROPE_FIELDS,
    num_key_value_heads: headCount.nullable().default(8),
    head_dim: headSize.nullish(),
    hidden_act: z.literal("silu").default("silu"),
    sliding_window: windowSize.nullable().default(4096),
    tie_word_embeddings: flag.default(false),
    bos_token_id: tokenIds.default(1),
    eos_token_id: tokenIds.default(2),
    attention_bias: only(false),
    mlp_bias: only(false),
  },
  decoder(config, contextTokens) {
    const headDim = config.head_dim ?? evenHeadDim(config);
    return {
      kvHeads: config.num_key_value_heads ?? config.num_attention_heads,
      headDim,
      tiedEmbeddings: config.tie_word_embeddings,
      ropes: [plainRope(config, { headDim, contextTokens })],
      layerKinds: sameLayers(config, { window: config.sliding_window, rope: 0 }),
    };
  },
});
