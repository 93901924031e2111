import { z } from "zod";
import { invalid } from "../refusals.ts";
import { defineArchitecture } from "./architecture.ts";
import { flag, headCount, headSize, ROPE_FIELDS, softCap, tokenIds, windowSize } from "./fields.ts";
import { LAYER_TYPES, layerKinds } from "./layers.ts";
import { plainRope } from "./rope-settings.ts";

/** Fields of Gemma 2 and 3 alike. */
export const GEMMA_FIELDS = {
  num_key_value_heads: headCount.default(4),
  head_dim: headSize.default(256),
  hidden_activation: z.literal("gelu_pytorch_tanh").default("gelu_pytorch_tanh"),
  // Not read by transformers; a value other than what is computed would tell of another model.
  hidden_act: z.literal("gelu_pytorch_tanh").nullish(),
  attention_bias: flag.default(false),
  query_pre_attn_scalar: z.number().positive().max(65_536).default(256),
  sliding_window: windowSize.nullable().default(4096),
  layer_types: LAYER_TYPES,
  tie_word_embeddings: flag.default(true),
  bos_token_id: tokenIds.default(2),
  eos_token_id: tokenIds.default(1),
} as const;

/** Gemma 2 (arXiv:2408.00118): norms around both halves of a block, soft caps, a window in every other layer. */
export const gemma2 = defineArchitecture({
  modelType: "gemma2",
  className: "Gemma2",
  fields: {
    ...GEMMA_FIELDS,
    ...ROPE_FIELDS,
    // Beside the name that is read, in the first releases.
    sliding_window_size: windowSize.nullish(),
    attn_logit_softcapping: softCap.default(50),
    final_logit_softcapping: softCap.default(30),
  },
  decoder(config, contextTokens) {
    const { sliding_window: window, sliding_window_size: early } = config;
    if (early != null && early !== window) {
      throw invalid(`"sliding_window" is ${window}, "sliding_window_size" ${early}`);
    }
    return {
      ...gemmaParts(config),
      attention: { ...gemmaAttention(config), softCap: config.attn_logit_softcapping },
      ropes: [plainRope(config, { headDim: config.head_dim, contextTokens })],
      layerKinds: layerKinds(
        config,
        window,
        (layer) => layer % 2 === 0,
        () => ({ rope: 0 }),
      ),
    };
  },
});

type GemmaConfig = z.infer<z.ZodObject<typeof GEMMA_FIELDS>> & {
  readonly hidden_size: number;
  readonly final_logit_softcapping: number | null;
};

export function gemmaParts(config: GemmaConfig) {
  return {
    kvHeads: config.num_key_value_heads,
    headDim: config.head_dim,
    normPlusOne: true,
    sandwichNorms: true,
    embeddingScale: Math.sqrt(config.hidden_size),
    tiedEmbeddings: config.tie_word_embeddings,
    logitSoftCap: config.final_logit_softcapping,
    activation: "gelu-tanh",
  } as const;
}

export function gemmaAttention(config: GemmaConfig) {
  return {
    scale: config.query_pre_attn_scalar ** -0.5,
    qkvBias: config.attention_bias,
    outBias: config.attention_bias,
  };
}
