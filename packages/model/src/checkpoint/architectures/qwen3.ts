import { z } from "zod";
import { defineArchitecture } from "./architecture.ts";
import { flag, headCount, headSize, only, ROPE_FIELDS, tokenIds } from "./fields.ts";
import { QWEN_WINDOW_FIELDS, qwenLayers } from "./qwen2.ts";
import { plainRope } from "./rope-settings.ts";

/** Qwen3, dense (arXiv:2505.09388): norms on each head's query and key, a head width of its own. */
export const qwen3 = defineArchitecture({
  modelType: "qwen3",
  className: "Qwen3",
  fields: {
    ...ROPE_FIELDS,
    ...QWEN_WINDOW_FIELDS,
    num_key_value_heads: headCount.nullable().default(32),
    head_dim: headSize.default(128),
    hidden_act: z.literal("silu").default("silu"),
    attention_bias: flag.default(false),
    tie_word_embeddings: flag.default(false),
    bos_token_id: tokenIds.optional(),
    eos_token_id: tokenIds.optional(),
    mlp_bias: only(false),
  },
  decoder(config, contextTokens) {
    const headDim = config.head_dim;
    return {
      kvHeads: config.num_key_value_heads ?? config.num_attention_heads,
      headDim,
      tiedEmbeddings: config.tie_word_embeddings,
      attention: { qkvBias: config.attention_bias, outBias: config.attention_bias, queryKeyNorm: true },
      ropes: [plainRope(config, { headDim, contextTokens })],
      layerKinds: qwenLayers(config),
    };
  },
});
