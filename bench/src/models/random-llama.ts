import { closeSync, mkdirSync, openSync, writeFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import {
  buildBody,
  buildGraphs,
  type DecoderSpec,
  FLOAT32,
  GraphWeights,
  planWeights,
  storedTensors,
  type WeightLocation,
} from "@persona-mesh/model/graph";
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
 * Norm gains are 1 and matrices have variance 1 / inputs, so that residuals stay finite over any depth.
 * Besides the package's graphs the folder holds `body-off.onnx` and `body-add.onnx`, for comparison.
 */
export function writeRandomLlama(spec: DecoderSpec, directory: string): RunnableModel {
  mkdirSync(directory, { recursive: true });
  const weights: WeightLocation[] = [];
  const weightsPath = join(directory, WEIGHTS_FILE);
  const file = openSync(weightsPath, "w");
  const random = uniform(1);
  let offset = 0;
  for (const planned of planWeights(spec)) {
    const [tensor] = storedTensors(planned);
    if (tensor === undefined) throw new Error("a weight is stored in at least one tensor");
    const values = new Float32Array(tensor.shape.reduce((product, extent) => product * extent, 1)).fill(1);
    if (planned.kind === "matrix") {
      const scale = Math.sqrt(3 / planned.in);
      for (let i = 0; i < values.length; i++) values[i] = (2 * random() - 1) * scale;
    }
    writeSync(file, new Uint8Array(values.buffer, values.byteOffset, values.byteLength), 0, values.byteLength, offset);
    weights.push({ ...tensor, offset, byteLength: values.byteLength });
    offset = Math.ceil((offset + values.byteLength) / ALIGNMENT) * ALIGNMENT;
  }
  closeSync(file);
  for (const [role, bytes] of buildGraphs(spec, weights, WEIGHTS_FILE)) {
    writeFileSync(join(directory, `${role}.onnx`), bytes);
  }
  writeComparisonGraphs(spec, weights, directory);
  return { spec, graphPath: (role) => join(directory, `${role}.onnx`), weightsPath, weights };
}

/** Bodies that steering is compared with: compiled out, and the addition alone. Beside the weights in `directory`. */
export function writeComparisonGraphs(spec: DecoderSpec, weights: readonly WeightLocation[], directory: string): void {
  const table = new GraphWeights(weights, WEIGHTS_FILE, FLOAT32);
  for (const steering of ["off", "add"] as const) {
    writeFileSync(join(directory, `body-${steering}.onnx`), buildBody(spec, table, { steering, residuals: false }));
  }
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
