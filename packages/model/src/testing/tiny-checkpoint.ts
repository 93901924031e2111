import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { ElementType } from "../checkpoint/element-types.ts";
import { expectedTensors } from "../checkpoint/expected-tensors.ts";
import type { DecoderSpec } from "../graph/decoder-spec.ts";
import { fixtureFile } from "./tokenizer-fixture.ts";

/** The smallest Llama that has every part: one block, untied head, 608 embeddings for the byte-level fixture. */
export const TINY_SPEC: DecoderSpec = {
  architecture: "llama",
  layers: 1,
  hidden: 8,
  heads: 2,
  kvHeads: 1,
  headDim: 16,
  intermediate: 12,
  vocabulary: 608,
  contextTokens: 32,
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
  layerKinds: [{ window: null, rope: 0 }],
};

export const TINY_CONFIG: Readonly<Record<string, unknown>> = {
  architectures: ["LlamaForCausalLM"],
  model_type: "llama",
  hidden_size: TINY_SPEC.hidden,
  intermediate_size: TINY_SPEC.intermediate,
  num_hidden_layers: TINY_SPEC.layers,
  num_attention_heads: TINY_SPEC.heads,
  num_key_value_heads: TINY_SPEC.kvHeads,
  head_dim: TINY_SPEC.headDim,
  vocab_size: TINY_SPEC.vocabulary,
  max_position_embeddings: TINY_SPEC.contextTokens,
  rms_norm_eps: TINY_SPEC.normEps,
  rope_parameters: { rope_theta: 10_000, rope_type: "default" },
  hidden_act: "silu",
  tie_word_embeddings: false,
  bos_token_id: 0,
  eos_token_id: 1,
  dtype: "float32",
};

export interface TinyTensor {
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly bytes: Uint8Array<ArrayBuffer>;
}

/**
 * Tensors of the tiny model; element i of the n-th tensor is `n + i / 1024`, so that every place can be told (in half
 * precision as near to it as the type comes).
 */
export function tinyTensors(spec: DecoderSpec = TINY_SPEC, dtype: ElementType = "F32"): Map<string, TinyTensor> {
  const tensors = new Map<string, TinyTensor>();
  for (const [name, shape] of expectedTensors(spec, { fusedProjections: false })) {
    const values = new Float32Array(shape.reduce((product, dimension) => product * dimension, 1));
    for (let i = 0; i < values.length; i++) values[i] = tensors.size + i / 1024;
    tensors.set(name, { dtype, shape, bytes: elementBytes(values, dtype) });
  }
  return tensors;
}

/** Values in an element type, bfloat16 cut off rather than rounded. */
function elementBytes(values: Float32Array<ArrayBuffer>, dtype: ElementType): Uint8Array<ArrayBuffer> {
  if (dtype === "F32") return new Uint8Array(values.buffer);
  if (dtype === "F16") return new Uint8Array(new Float16Array(values).buffer);
  return new Uint8Array(Uint16Array.from(new Uint32Array(values.buffer), (bits) => bits >>> 16).buffer);
}

/** A safetensors file, straight from the format's description. */
export function safetensorsBytes(tensors: ReadonlyMap<string, TinyTensor>): Uint8Array {
  const header: Record<string, unknown> = { __metadata__: { format: "pt" } };
  let end = 0;
  for (const [name, { dtype, shape, bytes }] of tensors) {
    header[name] = { dtype, shape, data_offsets: [end, end + bytes.byteLength] };
    end += bytes.byteLength;
  }
  return rawSafetensors(JSON.stringify(header), Buffer.concat([...tensors.values()].map(({ bytes }) => bytes)));
}

/** A file with any header, also a wrong one. */
export function rawSafetensors(header: string, data: Uint8Array): Uint8Array {
  const json = Buffer.from(header);
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(json.byteLength));
  return Buffer.concat([length, json, data]);
}

/**
 * The tensors in shards with an index, dealt out in turn, to take the place of `model.safetensors`.
 *
 * @returns contents by file name
 */
export function shardedFiles(
  tensors: ReadonlyMap<string, TinyTensor>,
  shards: number,
): Record<string, Uint8Array | string | undefined> {
  const name = (index: number) =>
    `model-${String(index + 1).padStart(5, "0")}-of-${String(shards).padStart(5, "0")}.safetensors`;
  const files: Record<string, Uint8Array | string | undefined> = { "model.safetensors": undefined };
  const dealt = [...tensors].map(([tensor], index) => [tensor, name(index % shards)] as const);
  for (let index = 0; index < shards; index++) {
    const own = [...tensors].filter((_, position) => position % shards === index);
    files[name(index)] = safetensorsBytes(new Map(own));
  }
  const size = [...tensors.values()].reduce((sum, { bytes }) => sum + bytes.byteLength, 0);
  files["model.safetensors.index.json"] = JSON.stringify({
    metadata: { total_size: size },
    weight_map: Object.fromEntries(dealt),
  });
  return files;
}

export interface TinyCheckpoint {
  readonly config?: unknown;
  readonly weights?: Uint8Array;
  /** Further files, or others than usual; undefined leaves a file out. */
  readonly files?: Readonly<Record<string, Uint8Array | string | undefined>>;
}

/** Write a checkpoint directory that imports, except for what `parts` changes. */
export async function writeTinyCheckpoint(directory: string, parts: TinyCheckpoint = {}): Promise<string> {
  await mkdir(directory, { recursive: true });
  const files: Record<string, string | Uint8Array | undefined> = {
    "config.json": JSON.stringify(parts.config ?? TINY_CONFIG),
    "model.safetensors": parts.weights ?? safetensorsBytes(tinyTensors()),
    "tokenizer.json": fixtureFile("byte-level", "tokenizer.json"),
    "tokenizer_config.json": fixtureFile("byte-level", "tokenizer_config.json"),
    ...parts.files,
  };
  for (const [name, data] of Object.entries(files)) {
    if (data !== undefined) await writeFile(join(directory, name), data);
  }
  return directory;
}
