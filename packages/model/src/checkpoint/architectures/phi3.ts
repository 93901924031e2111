import { z } from "zod";
import { defineArchitecture } from "./architecture.ts";
import { contextSize, flag, headCount, headSize, only, ROPE_FIELDS, tokenIds, windowSize } from "./fields.ts";
import { evenHeadDim, sameLayers } from "./layers.ts";
import { flatSources, readRope } from "./rope-settings.ts";

/** "su" and, in this family, "yarn" are the first names of LongRoPE. */
const KINDS = { default: "default", longrope: "longrope", su: "longrope", yarn: "longrope" } as const;

/** Phi-3, 3.5 and Phi-4-mini (arXiv:2404.14219): fused projections, LongRoPE, rotary over a part of the head. */
export const phi3 = defineArchitecture({
  modelType: "phi3",
  className: "Phi3",
  fields: {
    ...ROPE_FIELDS,
    partial_rotary_factor: z.number().positive().max(1).nullish(),
    original_max_position_embeddings: contextSize.min(2).default(4096),
    num_key_value_heads: headCount.nullish(),
    head_dim: headSize.nullish(),
    hidden_act: z.literal("silu").default("silu"),
    sliding_window: windowSize.nullable().default(null),
    tie_word_embeddings: flag.default(false),
    bos_token_id: tokenIds.default(1),
    eos_token_id: tokenIds.default(32_000),
    attention_bias: only(false),
    mlp_bias: only(false),
    lm_head_bias: only(false),
    full_attn_mod: only(1),
    interpolate_factor: only(1),
  },
  harmless: ["embd_pdrop", "resid_pdrop"],
  source: { fusedProjections: true },
  decoder(config, contextTokens) {
    const headDim = config.head_dim ?? evenHeadDim(config);
    return {
      kvHeads: config.num_key_value_heads ?? config.num_attention_heads,
      headDim,
      tiedEmbeddings: config.tie_word_embeddings,
      ropes: [
        readRope(flatSources(config), {
          headDim,
          kinds: KINDS,
          theta: { value: config.rope_theta, default: 10_000 },
          partialRotary: { value: config.partial_rotary_factor },
          originalContext: config.original_max_position_embeddings,
          modelContext: config.max_position_embeddings,
          contextTokens,
        }),
      ],
      layerKinds: sameLayers(config, { window: config.sliding_window, rope: 0 }),
    };
  },
});
