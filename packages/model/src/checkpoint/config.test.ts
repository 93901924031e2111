import { readdirSync, readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { TINY_CONFIG, TINY_SPEC } from "../testing/tiny-checkpoint.ts";
import { parseConfig, SUPPORTED_MODEL_TYPES } from "./config.ts";

type Config = Record<string, unknown>;

const FIXTURES = new URL("../graph/fixtures/", import.meta.url);

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

  it.each(readdirSync(FIXTURES))("reads what transformers wrote: %s", (name) => {
    const config = JSON.parse(readFileSync(new URL(`${name}/config.json`, FIXTURES), "utf8")) as Config;
    const { spec } = parseConfig(config);
    expect(spec.architecture).toBe(config["model_type"]);
    expect(spec.tiedEmbeddings).toBe(config["tie_word_embeddings"]);
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

  it("refuses the multimodal Gemma 3 and says what to look for", () => {
    const wrapper = { model_type: "gemma3", architectures: ["Gemma3ForConditionalGeneration"], text_config: {} };
    expect(() => parseConfig(wrapper)).toThrow(
      expect.objectContaining(refusal("CHECKPOINT_UNSUPPORTED", `"model_type" is "gemma3"`, "image", "gemma3_text")),
    );
    expect(SUPPORTED_MODEL_TYPES).not.toContain("gemma3");
  });

  it("takes code in the checkpoint for what it replaces, if it is named so", () => {
    const named = (target: unknown, role = "AutoModelForCausalLM") => ({
      ...TINY_CONFIG,
      auto_map: { [role]: target },
    });
    for (const config of [
      named("modeling_llama.LlamaForCausalLM"),
      named("someone/some-model--modeling_llama.LlamaForCausalLM"),
      named("configuration_llama.LlamaConfig", "AutoConfig"),
      named(["slow.Tokenizer", null], "AutoTokenizer"),
    ]) {
      expect(parseConfig(config)).toEqual(parseConfig(TINY_CONFIG));
    }
    for (const target of ["modeling_llama.MyLlamaForCausalLM", "modeling_phi3.Phi3ForCausalLM", "Llama", ["x"], null]) {
      expect(() => parseConfig(named(target)), JSON.stringify(target)).toThrow(
        expect.objectContaining(
          refusal("CHECKPOINT_UNSUPPORTED", `"auto_map.AutoModelForCausalLM"`, "LlamaForCausalLM"),
        ),
      );
    }
  });

  it("ends a reply with the family's token where config.json names none", () => {
    const { eos_token_id: _, bos_token_id: __, ...rest } = TINY_CONFIG;
    expect(parseConfig(rest)).toMatchObject({ bosTokenId: 1, eosTokenIds: [2] });
    const qwen = { ...rest, model_type: "qwen2", architectures: ["Qwen2ForCausalLM"] };
    expect(parseConfig(qwen)).toMatchObject({ bosTokenId: undefined, eosTokenIds: [] });
  });
});

describe("the context of an import", () => {
  it("is the model's unless a shorter one is asked for", () => {
    expect(parseConfig(TINY_CONFIG).spec.contextTokens).toBe(32);
    expect(parseConfig(TINY_CONFIG, undefined, { contextTokens: 8 }).spec).toEqual({ ...TINY_SPEC, contextTokens: 8 });
  });

  it.each([0, -1, 33, 1.5, Number.NaN])("cannot be %d", (contextTokens) => {
    expect(() => parseConfig(TINY_CONFIG, undefined, { contextTokens })).toThrow(
      expect.objectContaining(
        refusal("CHECKPOINT_UNSUPPORTED", String(contextTokens), "max_position_embeddings", "32"),
      ),
    );
  });

  it("leaves windows and the stretching of positions as they are", () => {
    const config = {
      ...TINY_CONFIG,
      model_type: "mistral",
      architectures: ["MistralForCausalLM"],
      sliding_window: 31,
      rope_parameters: { rope_theta: 10_000, rope_type: "yarn", factor: 4 },
    };
    const [whole, part] = [parseConfig(config), parseConfig(config, undefined, { contextTokens: 4 })];
    expect(part.spec).toEqual({ ...whole.spec, contextTokens: 4 });
    expect(whole.spec.layerKinds).toEqual([{ window: 31, rope: 0 }]);
    expect(whole.spec.ropes[0]?.scaling).toMatchObject({ kind: "yarn", originalContext: 32 });
  });

  it("decides between LongRoPE's factors, long ones beyond the original context", () => {
    const [short, long] = [Array(8).fill(1), Array.from({ length: 8 }, (_, i) => i + 2)];
    const config = (rope_type: string) => ({
      ...TINY_CONFIG,
      model_type: "phi3",
      architectures: ["Phi3ForCausalLM"],
      original_max_position_embeddings: 8,
      rope_parameters: { rope_theta: 10_000, rope_type, short_factor: short, long_factor: long },
    });
    const scaling = (contextTokens: number, rope_type = "longrope") =>
      parseConfig(config(rope_type), undefined, { contextTokens }).spec.ropes[0]?.scaling;
    // sqrt(1 + ln(32 / 8) / ln(8)), of the model's context and not of the import's.
    const attentionFactor = Math.sqrt(5 / 3);
    expect(scaling(8)).toEqual({
      kind: "longrope",
      factors: short,
      attentionFactor: expect.closeTo(attentionFactor, 12),
    });
    expect(scaling(9)).toEqual({
      kind: "longrope",
      factors: long,
      attentionFactor: expect.closeTo(attentionFactor, 12),
    });
    expect(scaling(9, "su")).toEqual(scaling(9));
  });
});

describe("rotary settings in two places", () => {
  const yarn = { rope_type: "yarn", factor: 2, original_max_position_embeddings: 16, rope_theta: 10_000 };

  it("are one where they agree", () => {
    const { rope_theta: _, rope_type: type, ...rest } = yarn;
    const config = { ...TINY_CONFIG, rope_parameters: yarn, rope_scaling: { ...rest, type }, rope_theta: 10_000 };
    expect(parseConfig(config)).toEqual(parseConfig({ ...TINY_CONFIG, rope_parameters: yarn }));
  });

  it.each<[string, Config]>([
    ["rope_scaling", { rope_scaling: { ...yarn, factor: 4 } }],
    ["rope_theta", { rope_theta: 500 }],
    ["rope_type", { rope_parameters: { ...yarn, type: "linear" } }],
  ])("are refused where they differ: %s", (name, part) => {
    expect(() => parseConfig({ ...TINY_CONFIG, rope_parameters: yarn, ...part })).toThrow(
      expect.objectContaining(refusal("CHECKPOINT_CONFIG_INVALID", name)),
    );
  });
});
