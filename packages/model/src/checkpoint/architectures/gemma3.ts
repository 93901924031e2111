import { z } from "zod";
import { invalid, parseFields, unsupported } from "../refusals.ts";
import { defineArchitecture } from "./architecture.ts";
import { anObject, only, ROPE_FIELDS, softCap } from "./fields.ts";
import { GEMMA_FIELDS, gemmaAttention, gemmaParts } from "./gemma2.ts";
import { layerKinds } from "./layers.ts";
import { readRope } from "./rope-settings.ts";

const PATTERN = z.int().min(1).max(1024);
/** transformers 5 nests the settings by what a layer attends to. */
const NESTED_ROPE = z.strictObject({ full_attention: anObject.nullish(), sliding_attention: anObject.nullish() });
const KINDS = { default: "default", linear: "linear" } as const;

/**
 * Gemma 3, text (arXiv:2503.19786): norms on query and key, and to each layer that sees everything five with a window and
 * a rotary base of their own.
 */
export const gemma3 = defineArchitecture({
  modelType: "gemma3_text",
  className: "Gemma3",
  fields: {
    ...GEMMA_FIELDS,
    ...ROPE_FIELDS,
    rope_local_base_freq: ROPE_FIELDS.rope_theta,
    // Without `layer_types`, every so many-th layer sees everything.
    sliding_window_pattern: PATTERN.default(6),
    // Kept by transformers beside the `layer_types` that it made of it.
    _sliding_window_pattern: PATTERN.nullish(),
    final_logit_softcapping: softCap.default(null),
    // transformers has the field and does not use it; other readers do.
    attn_logit_softcapping: only(null),
  },
  decoder(config, contextTokens) {
    const pattern = config.sliding_window_pattern;
    if (config.layer_types == null && (config._sliding_window_pattern ?? pattern) !== pattern) {
      throw invalid(
        `"_sliding_window_pattern" is ${config._sliding_window_pattern}, "sliding_window_pattern" ${pattern}`,
      );
    }
    const { rope_scaling: scaling } = config;
    if (scaling?.["type"] != null && scaling["rope_type"] == null) {
      // Older readers follow the old name, transformers 5 does not.
      throw unsupported("rope_scaling.type", scaling["type"], '"rope_type" for this family');
    }
    const nested = parseFields(NESTED_ROPE, config.rope_parameters ?? {}, "config.json", "rope_parameters");
    const context = {
      headDim: config.head_dim,
      kinds: KINDS,
      modelContext: config.max_position_embeddings,
      contextTokens,
    };
    const full = readRope(
      [
        { field: "rope_scaling", value: scaling },
        { field: "rope_parameters.full_attention", value: nested.full_attention },
      ],
      { ...context, theta: { value: config.rope_theta, default: 1_000_000 } },
    );
    const local = readRope([{ field: "rope_parameters.sliding_attention", value: nested.sliding_attention }], {
      ...context,
      theta: { value: config.rope_local_base_freq, default: 10_000 },
    });
    return {
      ...gemmaParts(config),
      attention: { ...gemmaAttention(config), queryKeyNorm: true },
      ropes: [full, local],
      layerKinds: layerKinds(
        config,
        config.sliding_window,
        (layer) => (layer + 1) % pattern !== 0,
        (sliding) => ({ rope: sliding ? 1 : 0 }),
      ),
    };
  },
});
