import { z } from "zod";
import { invalid } from "../refusals.ts";
import { defineArchitecture } from "./architecture.ts";
import { flag, headCount, headSize, ROPE_FIELDS, tokenIds, windowSize } from "./fields.ts";
import { evenHeadDim, LAYER_TYPES, layerKinds } from "./layers.ts";
import { plainRope } from "./rope-settings.ts";

/** SmolLM3: every fourth layer without positions (arXiv:2501.18795). */
export const smollm3 = defineArchitecture({
  modelType: "smollm3",
  className: "SmolLM3",
  fields: {
    ...ROPE_FIELDS,
    num_key_value_heads: headCount.nullable().default(4),
    head_dim: headSize.nullish(),
    hidden_act: z.literal("silu").default("silu"),
    attention_bias: flag.default(false),
    mlp_bias: flag.default(false),
    // 1 for a layer with positions, 0 for one without.
    no_rope_layers: z
      .array(z.literal([0, 1]))
      .max(1024)
      .nullish(),
    no_rope_layer_interval: z.int().min(1).max(1024).default(4),
    use_sliding_window: flag.default(false),
    sliding_window: windowSize.nullable().default(null),
    layer_types: LAYER_TYPES,
    tie_word_embeddings: flag.default(true),
    bos_token_id: tokenIds.default(128_000),
    eos_token_id: tokenIds.default(128_001),
  },
  harmless: ["max_window_layers"],
  decoder(config, contextTokens) {
    const headDim = config.head_dim ?? evenHeadDim(config);
    const { no_rope_layers: listed, no_rope_layer_interval: interval } = config;
    if (listed != null && listed.length < config.num_hidden_layers) {
      throw invalid(`"no_rope_layers" has ${listed.length} entries for ${config.num_hidden_layers} layers`);
    }
    const hasRope = (layer: number) => (listed == null ? (layer + 1) % interval !== 0 : listed[layer] === 1);
    const window = config.use_sliding_window ? config.sliding_window : null;
    return {
      kvHeads: config.num_key_value_heads ?? config.num_attention_heads,
      headDim,
      tiedEmbeddings: config.tie_word_embeddings,
      mlpBias: config.mlp_bias,
      attention: { qkvBias: config.attention_bias, outBias: config.attention_bias },
      ropes: [plainRope(config, { headDim, contextTokens, defaultTheta: 2_000_000 })],
      layerKinds: layerKinds(
        config,
        window,
        // The window is for the layers without positions, where there is one.
        (layer) => window !== null && !hasRope(layer),
        (_sliding, layer) => ({ rope: hasRope(layer) ? 0 : null }),
      ),
    };
  },
});
