import { closeSync, mkdirSync, openSync, writeFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import {
  buildBody,
  buildGraphs,
  type DecoderSpec,
  FLOAT32,
  GraphWeights,
  type PlannedWeight,
  type Precision,
  planWeights,
  type StoredTensor,
  storedTensors,
  WEIGHT,
  type WeightLocation,
} from "@persona-mesh/model/graph";
import { quantizeRows } from "@persona-mesh/model/quantize";
import type { RunnableModel } from "@persona-mesh/model/runtime";

/** The shape of a 135M Llama, as small models on the Hub have it. */
export const LLAMA_135M: DecoderSpec = {
  architecture: "llama",
  layers: 30,
  hidden: 576,
  heads: 9,
  kvHeads: 3,
  headDim: 64,
  intermediate: 1536,
  vocabulary: 49152,
  contextTokens: 512,
  normEps: 1e-5,
  normPlusOne: false,
  sandwichNorms: false,
  embeddingScale: 1,
  tiedEmbeddings: true,
  logitSoftCap: null,
  activation: "silu",
  mlpBias: false,
  attention: { scale: 0.125, qkvBias: false, outBias: false, queryKeyNorm: false, softCap: null },
  ropes: [{ theta: 10_000, rotaryDim: 64, scaling: { kind: "none" } }],
  layerKinds: Array.from({ length: 30 }, () => ({ window: null, rope: 0 })),
};

const WEIGHTS_FILE = "weights.bin";
/** Tensors begin on a page. */
const ALIGNMENT = 4096;

/**
 * Write a model of random weights in the form of a package: as slow, and as large, as a trained one of its shape.
 *
 * The weights are the same at every precision, before rounding. Norm gains are 1 and matrices have variance 1 / inputs, so
 * that residuals stay finite over any depth.
 * Besides the package's graphs the folder holds `body-off.onnx` and `body-add.onnx`, for comparison.
 */
export function writeRandomLlama(
  spec: DecoderSpec,
  directory: string,
  precision: Precision = FLOAT32,
): RunnableModel & { readonly precision: Precision } {
  mkdirSync(directory, { recursive: true });
  const weights: WeightLocation[] = [];
  const weightsPath = join(directory, WEIGHTS_FILE);
  const file = openSync(weightsPath, "w");
  let offset = 0;
  for (const planned of planWeights(spec, undefined, precision)) {
    for (const { values, ...tensor } of randomTensors(planned)) {
      writeSync(file, new Uint8Array(values.buffer), 0, values.byteLength, offset);
      weights.push({ ...tensor, offset, byteLength: values.byteLength });
      offset = Math.ceil((offset + values.byteLength) / ALIGNMENT) * ALIGNMENT;
    }
  }
  closeSync(file);
  for (const [role, bytes] of buildGraphs(spec, weights, WEIGHTS_FILE, precision)) {
    writeFileSync(join(directory, `${role}.onnx`), bytes);
  }
  writeComparisonGraphs(spec, weights, directory, precision);
  return { spec, precision, graphPath: (role) => join(directory, `${role}.onnx`), weightsPath, weights };
}

/** Bodies that steering is compared with: compiled out, and the addition alone. Beside the weights in `directory`. */
export function writeComparisonGraphs(
  spec: DecoderSpec,
  weights: readonly WeightLocation[],
  directory: string,
  precision: Precision = FLOAT32,
): void {
  const table = new GraphWeights(weights, WEIGHTS_FILE, precision);
  for (const steering of ["off", "add"] as const) {
    writeFileSync(join(directory, `body-${steering}.onnx`), buildBody(spec, table, { steering, residuals: false }));
  }
}

/** The stored tensors of a weight, with values. */
function randomTensors(planned: PlannedWeight): (StoredTensor & { values: Float32Array | Uint8Array })[] {
  const [tensor, scales] = storedTensors(planned);
  if (tensor === undefined) throw new Error("a weight is stored in at least one tensor");
  if (planned.kind === "vector") return [{ ...tensor, values: new Float32Array(tensor.shape[0] as number).fill(1) }];
  const { name, in: width, out: rows, format, layout } = planned;
  const values = randomRows(name, rows, width);
  if (format.kind === "float32")
    return [{ ...tensor, values: layout === "rows" ? values : transpose(values, rows, width) }];
  if (format.kind !== "nbits" || scales === undefined) throw new Error(`no random weights in ${format.kind}`);
  const quantized = quantizeRows(values, { rows, in: width, bits: format.bits, block: format.block });
  return [
    { ...tensor, values: quantized.data },
    { ...scales, values: quantized.scales },
  ];
}

/** float32[rows, width], the same for a name whatever is stored besides. */
function randomRows(name: string, rows: number, width: number): Float32Array {
  const random = uniform(
    [...(name === WEIGHT.head ? WEIGHT.embedding : name)].reduce((h, c) => Math.imul(h, 31) + c.charCodeAt(0), 7),
  );
  const scale = Math.sqrt(3 / width);
  const values = new Float32Array(rows * width);
  for (let i = 0; i < values.length; i++) values[i] = (2 * random() - 1) * scale;
  return values;
}

function transpose(values: Float32Array, rows: number, width: number): Float32Array {
  const transposed = new Float32Array(values.length);
  for (let row = 0; row < rows; row++) {
    for (let i = 0; i < width; i++) transposed[i * rows + row] = values[row * width + i] as number;
  }
  return transposed;
}

/** Mulberry32: a small deterministic generator, good enough for weights. */
function uniform(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}
