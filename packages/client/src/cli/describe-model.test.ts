import type { DecoderSpec, ModelManifest } from "@persona-mesh/model";
import { describe, expect, it } from "vitest";
import { describeManifest, formatCount } from "./describe-model.ts";

const LLAMA: DecoderSpec = {
  architecture: "llama",
  layers: 4,
  hidden: 64,
  heads: 4,
  kvHeads: 2,
  headDim: 16,
  intermediate: 128,
  vocabulary: 1000,
  contextTokens: 4096,
  normEps: 1e-5,
  normPlusOne: false,
  sandwichNorms: false,
  embeddingScale: 1,
  tiedEmbeddings: false,
  logitSoftCap: null,
  activation: "silu",
  mlpBias: false,
  attention: { scale: 0.25, qkvBias: false, outBias: false, queryKeyNorm: false, softCap: null },
  ropes: [{ theta: 10_000, rotaryDim: 16, scaling: { kind: "none" } }],
  layerKinds: Array.from({ length: 4 }, () => ({ window: null, rope: 0 })),
};

const FLOAT32 = { kind: "float32" } as const;

/** What is said of a model, by field. */
function described(changes: Partial<DecoderSpec>, precision?: ModelManifest["precision"]): Record<string, string> {
  const manifest: ModelManifest = {
    format: "persona-mesh/model-package",
    formatVersion: 2,
    modelChecksum: "m",
    graphDigest: "g",
    tokenizerDigest: "t",
    precision: precision ?? { name: "float32", linear: FLOAT32, embedding: FLOAT32, head: FLOAT32 },
    spec: { ...LLAMA, ...changes },
    weightBytes: 4000,
    tokens: { bos: 1, eos: [2] },
    graphs: { body: "body.onnx" },
    weightsFile: "weights.bin",
    weights: [{ name: "w", dtype: "float32", shape: [1000], offset: 0, byteLength: 4000, sha256: "s" }],
    files: { "body.onnx": { bytes: 500, sha256: "s" } },
    provenance: {
      source: "a\u001b[31mb",
      importer: "i",
      createdAt: "2026-01-01T00:00:00.000Z",
      tensors: [
        { name: "a", dtype: "BF16", shape: [20, 50], sha256: "s" },
        { name: "b", dtype: "BF16", shape: [234], sha256: "s" },
      ],
    },
  };
  return Object.fromEntries(describeManifest(manifest, "not verified").map((line) => line.split(/ {2,}/)));
}

describe("a model is described", () => {
  it("in few words where it is plain, with what a terminal could act on made visible", () => {
    expect(described({})).toMatchObject({
      parameters: "1.23k",
      precision: "float32",
      layers: "4",
      "hidden size": "64, 128 inside the MLP (SiLU gate)",
      heads: "4, key/value 2, of 16",
      positions: "rotary, base 10000",
      norms: "epsilon 0.00001",
      vocabulary: "1000",
      context: "4096 tokens, 1.02 kB of cache for each",
      package: "4.50 kB in 2 files",
      "made from": "a␛[31mb, 2026-01-01T00:00:00.000Z, by i",
      files: "not verified",
    });
  });

  it("with all that makes a Gemma", () => {
    const gemma = described({
      sandwichNorms: true,
      embeddingScale: 8,
      tiedEmbeddings: true,
      logitSoftCap: 30,
      activation: "gelu-tanh",
      attention: { scale: 1 / 12, qkvBias: false, outBias: false, queryKeyNorm: true, softCap: 50 },
      ropes: [
        { theta: 1_000_000, rotaryDim: 16, scaling: { kind: "linear", factor: 8 } },
        { theta: 10_000, rotaryDim: 16, scaling: { kind: "none" } },
      ],
      layerKinds: [0, 1, 2, 3].map((layer) => (layer === 3 ? { window: null, rope: 0 } : { window: 512, rope: 1 })),
    });
    expect(gemma).toMatchObject({
      layers: "4: 3 see the last 512 tokens, 1 sees everything",
      "hidden size": "64, 128 inside the MLP (GELU gate)",
      heads: "4, key/value 2, of 16; queries and keys normed; scores capped at 50; scores scaled by 0.08333",
      positions: "rotary, base 1000000, stretched 8 times in 1 layer; rotary, base 10000 in 3 layers",
      norms: "epsilon 0.00001, before and after attention and MLP",
      vocabulary: "1000, tied to the head, embeddings scaled by 8, logits capped at 30",
    });
  });

  it.each<[DecoderSpec["ropes"][number]["scaling"], string]>([
    [
      { kind: "llama3", factor: 32, lowFreqFactor: 1, highFreqFactor: 4, originalContext: 8192 },
      "stretched 32 times beyond 8192 tokens (llama3)",
    ],
    [
      {
        kind: "yarn",
        factor: 4,
        originalContext: 32_768,
        betaFast: 32,
        betaSlow: 1,
        truncate: true,
        attentionFactor: 1.1,
      },
      "stretched 4 times beyond 32768 tokens (YaRN)",
    ],
    [
      { kind: "longrope", factors: [1, 2], attentionFactor: 1.2 },
      "stretched by a factor for each frequency (LongRoPE)",
    ],
  ])("with its rope scaling: %j", (scaling, words) => {
    const ropes = [{ theta: 500_000, rotaryDim: 8, scaling }];
    expect(described({ ropes })["positions"]).toBe(`rotary on 8 of 16, base 500000, ${words}`);
  });

  it("with layers without positions, and the precision of each part", () => {
    const layerKinds = [0, 1, 2, 3].map((layer) => ({ window: null, rope: layer === 3 ? null : 0 }));
    const attention = { ...LLAMA.attention, qkvBias: true };
    const int8 = { kind: "nbits", bits: 8, block: 32 } as const;
    const int4 = { kind: "nbits", bits: 4, block: 128 } as const;
    const smollm = described({ layerKinds, attention }, { name: "int4", linear: int4, embedding: FLOAT32, head: int8 });
    expect(smollm).toMatchObject({
      heads: "4, key/value 2, of 16; biases",
      positions: "rotary, base 10000 in 3 layers; none in 1 layer",
      precision: "int4: projections 4 bits in blocks of 128, embedding float32, head 8 bits in blocks of 32",
    });
  });
});

it("counts are told in the unit that people say them in", () => {
  expect([7, 999, 1234, 134_515_008, 999_600_000, 8_030_261_248].map(formatCount)).toEqual([
    "7",
    "999",
    "1.23k",
    "135M",
    "1B",
    "8.03B",
  ]);
});
