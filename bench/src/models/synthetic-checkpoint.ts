import { copyFile, mkdir, open, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { type DecoderSpec, planWeights, type SourceTensor } from "@persona-mesh/model/graph";
import { LLAMA_135M } from "./random-llama.ts";

/** A Llama of a few thousand million parameters but for its depth, which makes the size: 201 MB a layer in bfloat16. */
const WIDE: Omit<DecoderSpec, "layers" | "layerKinds"> = {
  ...LLAMA_135M,
  hidden: 3072,
  heads: 24,
  kvHeads: 8,
  headDim: 128,
  intermediate: 8192,
  vocabulary: 128_256,
  contextTokens: 4096,
  tiedEmbeddings: false,
  ropes: [{ theta: 500_000, rotaryDim: 128, scaling: { kind: "none" } }],
};

/** A tokenizer that fits any larger vocabulary. */
const STARTER = fileURLToPath(new URL("../../../models/starter/", import.meta.url));

/** Elements are two bytes each. */
const ELEMENT_BYTES = 2;
/** Bytes of a shard, more or less, as large checkpoints on the Hub have it. */
const SHARD_BYTES = 2e9;
/** Random elements, written over and over: what they are makes no difference to the speed. */
const RANDOM_ELEMENTS = 8 * 1024 * 1024;

export interface SyntheticCheckpoint {
  readonly directory: string;
  readonly layers: number;
  /** Bytes of all tensors. */
  readonly bytes: number;
  readonly largestTensorBytes: number;
}

/**
 * Write a checkpoint as it comes from the Hub: Llama, bfloat16, shards with an index, the starter model's tokenizer.
 * Asynchronously, so that Ctrl-C is heard.
 *
 * @param spec - of a Llama
 * @param onBytes - called with the bytes written so far
 */
export async function writeSyntheticCheckpoint(
  directory: string,
  spec: DecoderSpec,
  onBytes: (done: number, total: number) => void = () => {},
): Promise<SyntheticCheckpoint> {
  await mkdir(directory, { recursive: true });
  const tensors = planWeights(spec).flatMap(({ sources }) => sources);
  const total = sum(tensors);
  const shards = cut(tensors);
  const random = randomElements();
  const map: Record<string, string> = {};
  let done = 0;
  for (const [index, shard] of shards.entries()) {
    const name = `model-${pad(index + 1)}-of-${pad(shards.length)}.safetensors`;
    for (const tensor of shard) map[tensor.name] = name;
    await writeShard(join(directory, name), shard, random, (written) => {
      done += written;
      onBytes(done, total);
    });
  }
  const write = (name: string, value: unknown) => writeFile(join(directory, name), JSON.stringify(value));
  await write("model.safetensors.index.json", { metadata: { total_size: total }, weight_map: map });
  await write("config.json", configOf(spec));
  for (const name of ["tokenizer.json", "tokenizer_config.json"]) {
    await copyFile(join(STARTER, name), join(directory, name));
  }
  const largestTensorBytes = Math.max(...tensors.map((tensor) => sum([tensor])));
  return { directory, layers: spec.layers, bytes: total, largestTensorBytes };
}

/** A Llama of about so many bytes, in whole layers. */
export function largeLlama(bytes: number): DecoderSpec {
  const deep = (layers: number): DecoderSpec => ({
    ...WIDE,
    layers,
    layerKinds: Array.from({ length: layers }, () => ({ window: null, rope: 0 })),
  });
  const size = (layers: number) => sum(planWeights(deep(layers)).flatMap(({ sources }) => sources));
  const layer = size(2) - size(1);
  return deep(Math.max(1, Math.round((bytes - size(1)) / layer) + 1));
}

function configOf(spec: DecoderSpec): Record<string, unknown> {
  return {
    architectures: ["LlamaForCausalLM"],
    model_type: "llama",
    hidden_size: spec.hidden,
    intermediate_size: spec.intermediate,
    num_hidden_layers: spec.layers,
    num_attention_heads: spec.heads,
    num_key_value_heads: spec.kvHeads,
    head_dim: spec.headDim,
    vocab_size: spec.vocabulary,
    max_position_embeddings: spec.contextTokens,
    rms_norm_eps: spec.normEps,
    rope_theta: spec.ropes[0]?.theta,
    hidden_act: spec.activation,
    tie_word_embeddings: spec.tiedEmbeddings,
    bos_token_id: 1,
    eos_token_id: 2,
    torch_dtype: "bfloat16",
  };
}

async function writeShard(
  path: string,
  tensors: readonly SourceTensor[],
  random: Buffer,
  onBytes: (bytes: number) => void,
): Promise<void> {
  const header: Record<string, unknown> = {};
  let end = 0;
  for (const tensor of tensors) {
    header[tensor.name] = { dtype: "BF16", shape: tensor.shape, data_offsets: [end, end + sum([tensor])] };
    end += sum([tensor]);
  }
  const json = Buffer.from(JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(json.byteLength));
  await using file = await open(path, "wx");
  for (const part of [length, json]) await file.write(part);
  for (let done = 0; done < end; ) {
    const from = done % random.byteLength;
    const { bytesWritten } = await file.write(random, from, Math.min(random.byteLength - from, end - done));
    done += bytesWritten;
    onBytes(bytesWritten);
  }
}

/** Shards of whole tensors, in order. */
function cut(tensors: readonly SourceTensor[]): SourceTensor[][] {
  const shards: SourceTensor[][] = [[]];
  let bytes = 0;
  for (const tensor of tensors) {
    if (bytes >= SHARD_BYTES) {
      shards.push([]);
      bytes = 0;
    }
    (shards.at(-1) as SourceTensor[]).push(tensor);
    bytes += sum([tensor]);
  }
  return shards;
}

/** bfloat16 values of magnitude 2^-8 to 2^-5 and either sign, as weights are. */
function randomElements(): Buffer {
  const elements = new Uint16Array(RANDOM_ELEMENTS);
  let state = 1;
  for (let i = 0; i < elements.length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    const exponent = 119 + ((state >>> 28) % 3);
    elements[i] = ((state >>> 16) & 0x8000) | (exponent << 7) | ((state >>> 20) & 0x7f);
  }
  return Buffer.from(elements.buffer);
}

function sum(tensors: readonly SourceTensor[]): number {
  return tensors.reduce((bytes, { shape }) => bytes + ELEMENT_BYTES * shape.reduce((a, b) => a * b, 1), 0);
}

function pad(index: number): string {
  return String(index).padStart(5, "0");
}
