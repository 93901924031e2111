import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { CheckpointError } from "../errors.ts";
import type { RopeSpec } from "../graph/decoder-spec.ts";
import { ropeFrequencies } from "../graph/rope.ts";
import { type CheckpointConfig, parseConfig } from "./config.ts";
import { expectedTensors } from "./expected-tensors.ts";

/** What a model that transformers built from a config computes; see tools/model-fixtures/config_reference.py. */
interface Reading {
  readonly tensors: string;
  readonly context: number;
  readonly head_dim: number;
  readonly groups: number;
  readonly eps: number;
  readonly scale: number;
  readonly attention_cap: number | null;
  readonly logit_cap: number | null;
  readonly embedding_scale: number;
  readonly activation: string;
  readonly tied: boolean;
  readonly bos: number | null;
  readonly eos: number | number[] | null;
  readonly layers: readonly (readonly [number | null, string | null])[];
  /** Index into the reference's `ropes`, by the name that layers use. */
  readonly ropes: Readonly<Record<string, number>>;
}

type Config = Record<string, unknown>;

const reference = JSON.parse(readFileSync(new URL("fixtures/configs.json", import.meta.url), "utf8")) as {
  readonly published: Record<string, { config: Config; reading: Reading }>;
  readonly bases: Record<string, Config>;
  readonly ropes: { readonly frequencies: number[]; readonly factor: number }[];
  readonly readings: Reading[];
  readonly changed: { base: string; change: Config; reading: number | null }[];
};

const ACTIVATION = { silu: "SiLUActivation", "gelu-tanh": "GELUTanh" } as const;

/** A reading of ours in the form of the reference; rotary embeddings aside. */
function reading({ spec, source, bosTokenId, eosTokenIds }: CheckpointConfig) {
  const lines = [...expectedTensors(spec, source)].map(([name, shape]) => `${name} [${shape.join(", ")}]\n`).sort();
  return {
    tensors: createHash("sha256").update(lines.join("")).digest("hex").slice(0, 16),
    context: spec.contextTokens,
    head_dim: spec.headDim,
    groups: spec.heads / spec.kvHeads,
    eps: spec.normEps,
    scale: spec.attention.scale,
    attention_cap: spec.attention.softCap,
    logit_cap: spec.logitSoftCap,
    embedding_scale: spec.embeddingScale,
    activation: ACTIVATION[spec.activation],
    tied: spec.tiedEmbeddings,
    bos: bosTokenId ?? null,
    eos: eosTokenIds,
    windows: spec.layerKinds.map(({ window }) => window),
  };
}

function expectSame(config: CheckpointConfig, expected: Reading, what: string): void {
  const { layers, ropes, ...rest } = expected;
  expect(reading(config), what).toEqual({
    ...rest,
    eos: [expected.eos ?? []].flat().sort((a, b) => a - b),
    windows: layers.map(([window]) => window),
  });
  for (const [index, [, rope]] of layers.entries()) {
    const ours = config.spec.layerKinds[index]?.rope ?? null;
    if (rope === null || ours === null) {
      expect(ours, what).toBe(rope);
      continue;
    }
    const { frequencies, factor } = reference.ropes[ropes[rope] as number] as (typeof reference.ropes)[number];
    const spec = config.spec.ropes[ours] as RopeSpec;
    const found = ropeFrequencies(spec);
    expect(found.length, what).toBe(frequencies.length);
    for (const [j, frequency] of frequencies.entries()) {
      // The reference computes in float32.
      expect(Math.abs((found[j] as number) / frequency - 1), what).toBeLessThan(1e-5);
    }
    expect("attentionFactor" in spec.scaling ? spec.scaling.attentionFactor : 1, what).toBeCloseTo(factor, 12);
  }
}

describe("parseConfig against transformers", () => {
  it.each(Object.keys(reference.published))("reads %s as published", (name) => {
    const { config, reading: expected } = reference.published[name] as (typeof reference.published)[string];
    expectSame(parseConfig(config), expected, name);
  });

  it.each(Object.keys(reference.bases))("reads every change of a %s config alike, or refuses it", (base) => {
    let read = 0;
    for (const { change, reading: index } of reference.changed.filter((one) => one.base === base)) {
      const config = Object.fromEntries(
        Object.entries({ ...reference.bases[base], ...change }).filter(([, value]) => !isRemoved(value)),
      );
      const what = `${base} with ${JSON.stringify(change)}`;
      let ours: CheckpointConfig;
      try {
        ours = parseConfig(config);
      } catch (error) {
        expect(error, what).toBeInstanceOf(CheckpointError);
        continue;
      }
      if (index === null) continue;
      expectSame(ours, reference.readings[index] as Reading, what);
      read++;
    }
    expect(read).toBeGreaterThan(50);
  });
});

function isRemoved(value: unknown): boolean {
  return typeof value === "object" && value !== null && "removed" in value;
}
