import { z } from "zod";
import { defineArchitecture } from "./architecture.ts";
import { flag, headCount, headSize, only, ROPE_FIELDS, tokenIds } from "./fields.ts";
import { evenHeadDim, sameLayers } from "./layers.ts";
import { plainRope } from "./rope-settings.ts";

/** Llama 1 to 3 (arXiv:2302.13971), SmolLM2 and the many others that share its class. */
export const llama = defineArchitecture({
  modelType: "llama",
  className: "Llama",
  fields: {
    ...ROPE_FIELDS,
    num_key_value_heads: headCount.nullish(),
    head_dim: headSize.nullish(),
    hidden_act: z.literal("silu").default("silu"),
    attention_bias: flag.default(false),
    mlp_bias: flag.default(false),
    tie_word_embeddings: flag.default(false),
    bos_token_id: tokenIds.default(1),
    eos_token_id: tokenIds.default(2),
    // What hidden_act comes to in a gated MLP; not read (Falcon 3).
    activation: z.literal("swiglu").nullish(),
    rope_interleaved: only(false),
    sliding_window: only(null),
  },
  harmless: ["is_llama_config", "max_sequence_length"],
  decoder(config, contextTokens) {
    const headDim = config.head_dim ?? evenHeadDim(config);
    return {
      kvHeads: config.num_key_value_heads ?? config.num_attention_heads,
      headDim,
      tiedEmbeddings: config.tie_word_embeddings,
      mlpBias: config.mlp_bias,
      attention: { qkvBias: config.attention_bias, outBias: config.attention_bias },
      ropes: [plainRope(config, { headDim, contextTokens })],
      layerKinds: sameLayers(config, { window: null, rope: 0 }),
    };
  },
});
