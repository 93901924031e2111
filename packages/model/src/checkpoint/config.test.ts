import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { TINY_CONFIG, TINY_SPEC } from "../testing/tiny-checkpoint.ts";
import { parseConfig } from "./config.ts";

const without = (field: string) => {
  const { [field]: _, ...rest } = TINY_CONFIG;
  return rest;
};
const refusal = (reason: string, ...parts: string[]) => ({
  reason,
  message: expect.stringMatching(
    new RegExp(parts.map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")).join(".*")),
  ),
});

describe("parseConfig", () => {
  it("reads a config of transformers 5", () => {
    expect(parseConfig(TINY_CONFIG)).toEqual({
      spec: TINY_SPEC,
      source: { fusedProjections: false },
      bosTokenId: 0,
      eosTokenIds: [1],
    });
  });

  it("reads a config of transformers 4 alike", () => {
    const { rope_parameters: _, dtype: __, ...rest } = TINY_CONFIG;
    const old = { ...rest, rope_theta: 10_000, rope_scaling: null, torch_dtype: "float32" };
    expect(parseConfig(old)).toEqual(parseConfig(TINY_CONFIG));
  });

  it.each(["grouped-untied", "plain-tied"])("reads what transformers wrote: %s", (name) => {
    const text = readFileSync(new URL(`../graph/fixtures/${name}/config.json`, import.meta.url), "utf8");
    const config = JSON.parse(text) as Record<string, unknown>;
    const { spec } = parseConfig(config);
    expect(spec.tiedEmbeddings).toBe(name === "plain-tied");
    expect(spec.hidden).toBe(config["hidden_size"]);
  });

  it("fills what may be left out as the Llama config does", () => {
    const {
      head_dim: _,
      num_key_value_heads: __,
      rope_parameters: ___,
      tie_word_embeddings: ____,
      ...rest
    } = TINY_CONFIG;
    const { spec } = parseConfig({ ...rest, hidden_size: 32 });
    expect(spec).toMatchObject({ headDim: 16, kvHeads: 2, ropes: TINY_SPEC.ropes, tiedEmbeddings: false });
  });

  it("takes token ids from generation_config.json first, ends as a set", () => {
    const config = parseConfig(TINY_CONFIG, { bos_token_id: 5, eos_token_id: [9, 7, 9], temperature: 0.6 });
    expect(config).toMatchObject({ bosTokenId: 5, eosTokenIds: [7, 9] });
    expect(parseConfig({ ...TINY_CONFIG, eos_token_id: null }).eosTokenIds).toEqual([]);
  });

  it.each<[string, unknown, string]>([
    ["model_type", "gpt2", "llama"],
    ["model_type", undefined, "llama"],
    ["hidden_act", "gelu", "silu"],
    ["architectures", ["LlamaForSequenceClassification"], "LlamaForCausalLM"],
    ["sliding_window", 4096, "null"],
    ["quantization_config", { bits: 4 }, "null"],
    ["partial_rotary_factor", 0.5, "1"],
    ["head_dim", 20, "multiples of 8"],
  ])("refuses %s %j and says what is supported", (field, value, supported) => {
    expect(() => parseConfig({ ...TINY_CONFIG, [field]: value })).toThrow(
      expect.objectContaining(refusal("CHECKPOINT_UNSUPPORTED", `"${field}"`, "supported", supported)),
    );
  });

  it.each(["attn_logit_softcapping", "layer_types", "qk_norm", "constructor", "residual_multiplier"])(
    "refuses a field it does not know: %s",
    (field) => {
      const config = JSON.parse(JSON.stringify({ ...TINY_CONFIG, [field]: 1 })) as Record<string, unknown>;
      expect(() => parseConfig(config)).toThrow(
        expect.objectContaining(refusal("CHECKPOINT_UNSUPPORTED", `"${field}"`)),
      );
    },
  );

  it.each([
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "vocab_size",
    "max_position_embeddings",
    "rms_norm_eps",
  ])("refuses a config without %s, or with a value that is no size", (field) => {
    for (const config of [
      without(field),
      ...[0, -1, "8", null, 1e300, Number.NaN].map((v) => ({ ...TINY_CONFIG, [field]: v })),
    ]) {
      expect(() => parseConfig(config)).toThrow(expect.objectContaining(refusal("CHECKPOINT_CONFIG_INVALID", field)));
    }
  });

  it("refuses numbers that contradict each other", () => {
    const contradictions: Record<string, unknown>[] = [
      { num_key_value_heads: 3 },
      { head_dim: null, hidden_size: 9 },
      { rope_theta: 500 },
      { bos_token_id: 608 },
      { eos_token_id: [1, 608] },
    ];
    for (const part of contradictions) {
      expect(() => parseConfig({ ...TINY_CONFIG, ...part }), JSON.stringify(part)).toThrow(
        expect.objectContaining({ reason: "CHECKPOINT_CONFIG_INVALID" }),
      );
    }
  });
});
