import { readFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { CheckpointError } from "../errors.ts";
import { ARCHITECTURES, HARMLESS_FIELDS } from "./architectures/index.ts";
import { type CheckpointConfig, parseConfig } from "./config.ts";

type Config = Readonly<Record<string, unknown>>;

const { published, bases } = JSON.parse(readFileSync(new URL("fixtures/configs.json", import.meta.url), "utf8")) as {
  published: Record<string, { config: Config }>;
  bases: Record<string, Config>;
};

/** Every published config, and the tiny ones. */
const CONFIGS: readonly [string, Config][] = [
  ...Object.entries(published).map(([name, { config }]): [string, Config] => [name, config]),
  ...Object.entries(bases),
];

/** Longest message, with all fields of a family listed. */
const MAX_MESSAGE = 2000;

/**
 * Fields that another value leaves without effect in a config such as this one; as in transformers, see
 * config-reference.test.ts. Everything else shows in the result, or is refused.
 */
function isIdle(field: string, config: Config, changed: Config): boolean {
  if (HARMLESS_FIELDS.has(field)) return true;
  const family = ARCHITECTURES.get(config["model_type"] as string);
  if (family?.harmless.includes(field)) return true;
  const wide = [config, changed].every((one) => Number(one["sliding_window"] ?? Infinity) >= contextOf(one));
  const usesWindow = (one: Config) => one["use_sliding_window"] !== false && one["use_sliding_window"] != null;
  const noWindow = [config, changed].every(
    (one) => wide || !usesWindow(one) || one["sliding_window"] == null || firstWindow(one) >= layersOf(one),
  );
  switch (field) {
    case "sliding_window":
      return wide || ("use_sliding_window" in config && !usesWindow(config));
    case "use_sliding_window":
      return noWindow;
    case "max_window_layers":
      return noWindow || Math.min(firstWindow(config), firstWindow(changed)) >= layersOf(config);
    case "no_rope_layer_interval":
      return config["no_rope_layers"] != null;
    case "sliding_window_pattern":
    case "_sliding_window_pattern":
      return config["layer_types"] != null;
    case "original_max_position_embeddings":
      // LongRoPE compares it with the context, and takes the factor on cos and sin from it.
      return config["rope_scaling"] == null;
    case "rope_scaling":
    case "rope_parameters":
    case "architectures":
    case "pruned_heads":
      // Nothing said, in another way.
      return isEmpty(changed[field]);
    case "auto_map":
      // How text is read is tokenizer.json's matter.
      return (
        isEmpty(changed[field]) ||
        JSON.stringify(withoutTokenizer(changed)) === JSON.stringify(withoutTokenizer(config))
      );
    default:
      return false;
  }
}

const withoutTokenizer = (config: Config) => ({ ...(config["auto_map"] as object), AutoTokenizer: undefined });
const contextOf = (config: Config) => Number(config["max_position_embeddings"]);
const layersOf = (config: Config) => Number(config["num_hidden_layers"]);
const firstWindow = (config: Config) => Number(config["max_window_layers"] ?? 28);
const isEmpty = (value: unknown) => value == null || JSON.stringify(value).length === 2;

/** A result as text, or the refusal. */
function outcome(config: Config): { readonly config: CheckpointConfig; readonly text: string } | CheckpointError {
  try {
    const read = parseConfig(config);
    return { config: read, text: JSON.stringify(read) };
  } catch (error) {
    if (error instanceof CheckpointError) return error;
    throw new Error(`a config made the reader fail: ${JSON.stringify(config).slice(0, 2000)}`, { cause: error });
  }
}

/** Values that are near to what a field has: a misreading would go unnoticed. */
function neighbours(value: unknown): unknown[] {
  if (typeof value === "boolean") return [!value];
  if (typeof value === "number") return [value * 2, value + 1, value / 2, value - 1, value * 1.5];
  if (typeof value === "string") return [`${value}_`, value.toUpperCase(), "gelu"];
  if (Array.isArray(value)) {
    const flipped = value.map((one) =>
      typeof one === "number" ? 1 - one : one === "full_attention" ? "sliding_attention" : "full_attention",
    );
    return [flipped, value.slice(1), [...value, -1]];
  }
  if (typeof value === "object" && value !== null) {
    return Object.entries(value).flatMap(([key, inner]) => [
      { ...value, other: 1 },
      ...neighbours(inner).map((other) => ({ ...value, [key]: other })),
    ]);
  }
  return [1, 2, 64, 0.5, true, "gelu", { rope_type: "linear", factor: 3 }, ["sliding_attention"]];
}

it.each(CONFIGS)("%s: another value of any field shows in the result, or is refused", (_name, config) => {
  const original = outcome(config) as { text: string };
  const known = Object.keys(ARCHITECTURES.get(config["model_type"] as string)?.schema.shape ?? {});
  for (const field of new Set([...Object.keys(config), ...known])) {
    for (const value of neighbours(config[field])) {
      const changed = { ...config, [field]: value };
      if (isIdle(field, config, changed)) continue;
      const now = outcome(changed);
      if (now instanceof CheckpointError) expect(now.message.length).toBeLessThan(MAX_MESSAGE);
      // A default that is written out says the same.
      else if (field in config) expect(now.text, `${field}: ${JSON.stringify(value)}`).not.toBe(original.text);
    }
  }
});

describe("a config with random values", () => {
  const value = fc.oneof(
    { weight: 4, arbitrary: fc.constantFrom<unknown>(1, 2, 4, 8, 16, 32, 64, 128, 4096, 1e-5, true, false, null) },
    {
      weight: 3,
      arbitrary: fc.oneof(fc.integer({ min: -2, max: 70 }), fc.constantFrom(1e9, 2 ** 53, 1e308, 5e-324, 0.3, -0.5)),
    },
    fc.constantFrom(null, true, false, "", "default", "yarn", "longrope", "x".repeat(5000)),
    fc.array(fc.oneof(fc.integer({ min: -1, max: 4096 }), fc.constant("sliding_attention")), { maxLength: 6 }),
    fc.constantFrom([], Array(5000).fill(1), {}, [[[[[]]]]], JSON.parse('{"__proto__": 1, "constructor": 2}')),
    fc.record(
      {
        rope_type: fc.constantFrom("default", "linear", "yarn", "llama3", "longrope", "dynamic", "toString"),
        rope_theta: fc.constantFrom(1, 10_000, 5e5, null),
        factor: fc.constantFrom(0, 0.5, 2, 1e300, null),
        original_max_position_embeddings: fc.constantFrom(1, 2, 64, 1e9),
        attention_factor: fc.constantFrom(0, 1.5, -1),
        beta_fast: fc.constantFrom(0, 1, 40),
        low_freq_factor: fc.constantFrom(0, 1),
        high_freq_factor: fc.constantFrom(1, 4),
        short_factor: fc.constantFrom([], [0], [1, 1, 1, 1, 1, 1, 1, 1]),
        long_factor: fc.constantFrom([-1], [2, 2, 2, 2, 2, 2, 2, 2]),
      },
      { requiredKeys: ["rope_type"] },
    ),
  );

  it.each(Object.entries(bases))("is refused, or read as a decoder that can be built: %s", (modelType, base) => {
    const known = Object.keys(ARCHITECTURES.get(modelType)?.schema.shape ?? {});
    const field = fc.oneof(
      { weight: 9, arbitrary: fc.constantFrom(...known) },
      fc.constantFrom("__proto__", "constructor", "toString", "num_local_experts", "x".repeat(5000), ""),
    );
    let read = 0;
    fc.assert(
      fc.property(fc.array(fc.tuple(field, value), { minLength: 1, maxLength: 2 }), (changes) => {
        // As JSON says it: "__proto__" is a key like any other.
        const config = JSON.parse(
          `{${[
            ...Object.entries(base).filter(([name]) => !changes.some(([other]) => other === name)),
            ...new Map(changes),
          ]
            .map(([name, one]) => `${JSON.stringify(name)}:${JSON.stringify(one)}`)
            .join(",")}}`,
        ) as Config;
        const now = outcome(config);
        if (now instanceof CheckpointError) {
          expect(now.message.length).toBeLessThan(MAX_MESSAGE);
          return;
        }
        read++;
        expectBuildable(now.config);
        for (const [name] of changes) expect(known.includes(name), name).toBe(true);
      }),
      { numRuns: 1000, seed: 3 },
    );
    expect(read).toBeGreaterThan(50);
  });
});

/** What the graphs rely on. */
function expectBuildable({ spec, bosTokenId, eosTokenIds }: CheckpointConfig): void {
  const numbers: number[] = [];
  const text = JSON.stringify(spec, (_key, value: unknown) => {
    if (typeof value === "number") numbers.push(value);
    return value;
  });
  expect(text).not.toMatch(/undefined|NaN/);
  expect(numbers.every(Number.isFinite)).toBe(true);
  expect(spec.heads % spec.kvHeads).toBe(0);
  expect(spec.headDim % 8).toBe(0);
  expect(spec.layerKinds.length).toBe(spec.layers);
  for (const { window, rope } of spec.layerKinds) {
    expect(window === null || (window >= 1 && window < spec.contextTokens)).toBe(true);
    expect(rope === null || rope < spec.ropes.length).toBe(true);
  }
  for (const { theta, rotaryDim, scaling } of spec.ropes) {
    expect(theta).toBeGreaterThan(1);
    expect(rotaryDim % 2 === 0 && rotaryDim >= 2 && rotaryDim <= spec.headDim).toBe(true);
    if (scaling.kind === "longrope") expect(scaling.factors.length).toBe(rotaryDim / 2);
    if ("attentionFactor" in scaling) expect(scaling.attentionFactor).toBeGreaterThan(0);
  }
  for (const id of [bosTokenId ?? 0, ...eosTokenIds]) expect(id).toBeLessThan(spec.vocabulary);
}
