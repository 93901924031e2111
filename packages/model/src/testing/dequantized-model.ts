import { readFile, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import {
  buildGraphs,
  FLOAT32,
  type MatrixFormat,
  type PlannedWeight,
  type Precision,
  planWeights,
  type SourceLayout,
  scalesOf,
  storedTensors,
  type WeightLocation,
} from "../graph/index.ts";
import { needsHead } from "../graph/weights-plan.ts";
import { dequantizeRows } from "../quantize/index.ts";
import type { RunnableModel } from "../runtime/index.ts";

type MatrixPlan = Extract<PlannedWeight, { kind: "matrix" }>;
type IntegerFormat = Extract<MatrixFormat, { kind: "nbits" }>;

const WEIGHTS_FILE = "dequantized.bin";
const ALIGNMENT = 4096;

/**
 * The float32 model whose weights are what those of an integer model stand for, beside that model's files: what the
 * integer graphs compute, less the rounding of activations.
 */
export async function dequantizedModel(
  model: RunnableModel,
  source: SourceLayout,
  precision: Precision,
): Promise<RunnableModel> {
  if (model.spec.tiedEmbeddings && needsHead(model.spec, precision)) {
    throw new Error("a tied model has one matrix for embedding and head; these formats round it in two ways");
  }
  const directory = dirname(model.weightsPath);
  const bytes = await readFile(model.weightsPath);
  const stored = new Map(model.weights.map((weight) => [weight.name, weight]));
  const floats = (name: string) => new Float32Array(elements(bytes, stored, name).buffer);
  const integers = new Map(planWeights(model.spec, source, precision).map((weight) => [weight.name, weight]));
  const weights: WeightLocation[] = [];
  const chunks: Uint8Array[] = [];
  let end = 0;
  for (const planned of planWeights(model.spec, source, FLOAT32)) {
    const [tensor] = storedTensors(planned);
    if (tensor === undefined) throw new Error("a weight is stored in at least one tensor");
    const own = integers.get(planned.name);
    let values = own?.kind === "matrix" && own.format.kind === "nbits" ? matrix(own, own.format) : floats(planned.name);
    if (planned.kind === "matrix" && own?.kind === "matrix" && planned.layout !== own.layout) {
      values = transpose(values, planned.out, planned.in);
    }
    weights.push({ ...tensor, offset: end, byteLength: values.byteLength });
    const padding = new Uint8Array(-values.byteLength & (ALIGNMENT - 1));
    chunks.push(new Uint8Array(values.buffer), padding);
    end += values.byteLength + padding.byteLength;
  }
  const weightsPath = join(directory, WEIGHTS_FILE);
  await writeFile(weightsPath, Buffer.concat(chunks));
  const graphPath = (role: string) => join(directory, `dequantized-${role}.onnx`);
  for (const [role, graph] of buildGraphs(model.spec, weights, WEIGHTS_FILE)) await writeFile(graphPath(role), graph);
  return { spec: model.spec, weights, weightsPath, graphPath };

  function matrix({ name, out, in: width }: MatrixPlan, { bits, block }: IntegerFormat): Float32Array {
    const data = elements(bytes, stored, name);
    return dequantizeRows({ data, scales: floats(scalesOf(name)) }, { rows: out, in: width, bits, block });
  }
}

/** A copy of a tensor's bytes. */
function elements(file: Uint8Array, stored: ReadonlyMap<string, WeightLocation>, name: string): Uint8Array {
  const location = stored.get(name);
  if (location === undefined) throw new Error(`the model has no weight "${name}"`);
  return new Uint8Array(file.subarray(location.offset, location.offset + location.byteLength));
}

/** float32[rows, width] to float32[width, rows]. */
function transpose(values: Float32Array, rows: number, width: number): Float32Array {
  return values.map((_, i) => values[(i % rows) * width + Math.floor(i / rows)] as number);
}
