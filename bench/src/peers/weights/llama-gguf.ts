import { closeSync, openSync, readSync } from "node:fs";
import { type DecoderSpec, WEIGHT } from "@persona-mesh/model/graph";
import type { RunnableModel } from "@persona-mesh/model/runtime";
import { ggmlBlocks, ggmlBytes } from "./ggml-blocks.ts";
import { type GgmlType, type GgufTensor, type GgufValue, writeGguf } from "./gguf.ts";
import { requirePlain } from "./transformers-graph.ts";

/** What the matrices of a file are. Norms are float32 in all. */
export type GgufPrecision = "F32" | "Q8_0" | "Q4_0";

/** The number that stands for it in the header. */
const FILE_TYPE: Record<GgufPrecision, number> = { F32: 0, Q4_0: 2, Q8_0: 7 };

/**
 * Write a model of float32 weights as a GGUF file of llama.cpp's `llama` architecture.
 *
 * Embedding and head, which are one tensor, are Q8_0 in a file of Q4_0, as our int4 has them in eight bits.
 *
 * @param model - float32, tied embeddings
 */
export function writeLlamaGguf(model: RunnableModel, path: string, precision: GgufPrecision): void {
  const { spec } = model;
  requirePlain(spec);
  writeGguf(path, metadataOf(spec, precision), tensorsOf(model, precision));
}

function metadataOf(spec: DecoderSpec, precision: GgufPrecision): Record<string, GgufValue> {
  return {
    "general.architecture": { string: "llama" },
    "general.name": { string: "random" },
    "general.file_type": { uint32: FILE_TYPE[precision] },
    "general.quantization_version": { uint32: 2 },
    "llama.context_length": { uint32: spec.contextTokens },
    "llama.embedding_length": { uint32: spec.hidden },
    "llama.block_count": { uint32: spec.layers },
    "llama.feed_forward_length": { uint32: spec.intermediate },
    "llama.attention.head_count": { uint32: spec.heads },
    "llama.attention.head_count_kv": { uint32: spec.kvHeads },
    "llama.attention.key_length": { uint32: spec.headDim },
    "llama.attention.value_length": { uint32: spec.headDim },
    "llama.attention.layer_norm_rms_epsilon": { float32: spec.normEps },
    "llama.rope.dimension_count": { uint32: spec.headDim },
    "llama.rope.freq_base": { float32: spec.ropes[0]?.theta ?? 10_000 },
    "llama.vocab_size": { uint32: spec.vocabulary },
    ...vocabularyOf(spec.vocabulary),
  };
}

/** Kinds of tokens, as llama.cpp numbers them. */
const TOKEN = { normal: 1, unknown: 2, control: 3, byte: 6 } as const;

/** A vocabulary that loads: nobody reads the text, prompts and replies are ids. */
function vocabularyOf(size: number): Record<string, GgufValue> {
  const special = [
    { token: "<unk>", type: TOKEN.unknown },
    { token: "<s>", type: TOKEN.control },
    { token: "</s>", type: TOKEN.control },
  ];
  const bytes = Array.from({ length: 256 }, (_, byte) => ({
    token: `<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`,
    type: TOKEN.byte,
  }));
  const words = Array.from({ length: size - special.length - bytes.length }, (_, index) => ({
    token: `▁w${index}`,
    type: TOKEN.normal,
  }));
  const tokens = [...special, ...bytes, ...words];
  return {
    "tokenizer.ggml.model": { string: "llama" },
    "tokenizer.ggml.tokens": { strings: tokens.map(({ token }) => token) },
    "tokenizer.ggml.scores": { float32s: tokens.map((_, index) => -index) },
    "tokenizer.ggml.token_type": { int32s: tokens.map(({ type }) => type) },
    "tokenizer.ggml.unknown_token_id": { uint32: 0 },
    "tokenizer.ggml.bos_token_id": { uint32: 1 },
    "tokenizer.ggml.eos_token_id": { uint32: 2 },
    "tokenizer.ggml.add_bos_token": { bool: false },
    "tokenizer.ggml.add_eos_token": { bool: false },
  };
}

function tensorsOf(model: RunnableModel, precision: GgufPrecision): GgufTensor[] {
  const { layers, hidden, heads, kvHeads, headDim, intermediate, vocabulary } = model.spec;
  const tensor = (name: string, type: GgmlType, shape: readonly number[], values: () => Float32Array): GgufTensor => ({
    name,
    type,
    shape,
    byteLength: ggmlBytes(type, product(shape)),
    bytes: () => ggmlBlocks(type, values()),
  });
  const vector = (name: string, weight: string) => tensor(name, "F32", [hidden], () => readWeight(model, weight));
  /** Rows `from` to `to` of a weight, which is stored by columns. */
  const matrix = (
    name: string,
    weight: string,
    width: number,
    [from, to]: readonly [number, number],
    arrange: (rows: Float32Array) => Float32Array = (rows) => rows,
  ) => tensor(name, precision, [to - from, width], () => arrange(rowsOf(readWeight(model, weight), width, from, to)));
  const paired = (rows: Float32Array) => pairRotary(rows, headDim, hidden);
  const [queries, keys] = [heads * headDim, kvHeads * headDim];

  const tensors = [
    tensor("token_embd.weight", precision === "Q4_0" ? "Q8_0" : precision, [vocabulary, hidden], () =>
      readWeight(model, WEIGHT.embedding),
    ),
    vector("output_norm.weight", WEIGHT.finalNorm),
  ];
  for (let layer = 0; layer < layers; layer++) {
    const at = (name: string) => `blk.${layer}.${name}.weight`;
    const [qkv, gateUp] = [WEIGHT.qkv(layer), WEIGHT.gateUp(layer)];
    tensors.push(
      vector(at("attn_norm"), WEIGHT.attentionNorm(layer)),
      matrix(at("attn_q"), qkv, hidden, [0, queries], paired),
      matrix(at("attn_k"), qkv, hidden, [queries, queries + keys], paired),
      matrix(at("attn_v"), qkv, hidden, [queries + keys, queries + 2 * keys]),
      matrix(at("attn_output"), WEIGHT.attentionOut(layer), queries, [0, hidden]),
      vector(at("ffn_norm"), WEIGHT.mlpNorm(layer)),
      matrix(at("ffn_gate"), gateUp, hidden, [0, intermediate]),
      matrix(at("ffn_up"), gateUp, hidden, [intermediate, 2 * intermediate]),
      matrix(at("ffn_down"), WEIGHT.down(layer), intermediate, [0, hidden]),
    );
  }
  return tensors;
}

/** A weight as the package has it. */
function readWeight({ weightsPath, weights }: RunnableModel, name: string): Float32Array {
  const weight = weights.find((candidate) => candidate.name === name);
  if (weight?.dtype !== "float32") throw new Error(`there is no float32 weight "${name}"`);
  const values = new Float32Array(product(weight.shape));
  const bytes = new Uint8Array(values.buffer);
  const file = openSync(weightsPath, "r");
  try {
    for (let done = 0; done < bytes.byteLength; ) {
      const read = readSync(file, bytes, done, bytes.byteLength - done, weight.offset + done);
      if (read === 0) throw new Error(`"${name}" ends before its ${bytes.byteLength} bytes`);
      done += read;
    }
  } finally {
    closeSync(file);
  }
  return values;
}

/** Rows of W from Wᵀ: float32[width, all] → float32[to - from, width]. */
function rowsOf(columns: Float32Array, width: number, from: number, to: number): Float32Array {
  const all = columns.length / width;
  const rows = new Float32Array((to - from) * width);
  for (let row = from; row < to; row++) {
    for (let i = 0; i < width; i++) rows[(row - from) * width + i] = columns[i * all + row] as number;
  }
  return rows;
}

/**
 * The rotary embedding turns pairs of elements: here (j, j + headDim / 2) of a head, in llama.cpp (2j, 2j + 1). So the rows of
 * a head of query and key are put in that order, which attention cannot tell apart.
 *
 * @param rows - float32[heads · headDim, width]
 */
function pairRotary(rows: Float32Array, headDim: number, width: number): Float32Array {
  const half = headDim / 2;
  const paired = new Float32Array(rows.length);
  for (let to = 0; to < rows.length / width; to++) {
    const inHead = to % headDim;
    const from = to - inHead + (inHead % 2) * half + (inHead >> 1);
    paired.set(rows.subarray(from * width, (from + 1) * width), to * width);
  }
  return paired;
}

function product(shape: readonly number[]): number {
  return shape.reduce((elements, extent) => elements * extent, 1);
}
