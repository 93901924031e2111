import { readdirSync } from "node:fs";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Checkpoint } from "../checkpoint/checkpoint.ts";
import type { CheckpointConfig } from "../checkpoint/config.ts";
import {
  buildBody,
  buildGraphs,
  type DecoderSpec,
  FLOAT32,
  GraphWeights,
  type PlannedWeight,
  type Precision,
  planWeights,
  type SteeringParts,
} from "../graph/index.ts";
import { placeWeights } from "../package/weights-layout.ts";
import { writeWeights } from "../package/weights-writer.ts";
import type { RunnableModel } from "../runtime/index.ts";

const FIXTURES = new URL("../graph/fixtures/", import.meta.url);
const WEIGHTS_FILE = "weights.bin";

/** The tiny random checkpoints with reference values, by folder name; made by tools/model-fixtures/model_reference.py. */
export const REFERENCE_MODELS: readonly string[] = readdirSync(FIXTURES).sort();

/** A tensor of a reference file. */
export interface ReferenceTensor {
  readonly shape: readonly number[];
  readonly data: Float32Array;
}

/** Converted graphs and weights of a fixture checkpoint in a temporary folder. */
export interface ReferenceModel extends AsyncDisposable {
  readonly model: RunnableModel;
  /** What the checkpoint says, without the change. */
  readonly config: CheckpointConfig;
  readonly directory: string;
  readonly tensor: (name: string) => ReferenceTensor;
  readonly names: readonly string[];
}

/** What a conversion gets wrong on purpose. */
export interface ModelChange {
  readonly spec?: Partial<DecoderSpec>;
  readonly weight?: (weight: PlannedWeight) => PlannedWeight;
}

export interface ReferenceOptions {
  /** Another reading of the checkpoint, to see that the difference shows. */
  readonly change?: ModelChange;
  /**
   * Parts of the serving body graph.
   *
   * @default "projected", as in a package
   */
  readonly steering?: SteeringParts;
  /** @default float32 */
  readonly precision?: Precision;
}

/** Convert a fixture checkpoint without a tokenizer, which these models do not have. */
export async function referenceModel(name: string, options: ReferenceOptions = {}): Promise<ReferenceModel> {
  const { change = {}, steering = "projected", precision = FLOAT32 } = options;
  const directory = await mkdtemp(join(tmpdir(), "persona-reference-"));
  const source = new URL(`${name}/`, FIXTURES).pathname;
  await using checkpoint = await Checkpoint.open(source);
  const spec = { ...checkpoint.config.spec, ...change.spec };
  const plan = planWeights(spec, checkpoint.config.source, precision).map(change.weight ?? ((weight) => weight));
  const weights = placeWeights(plan);
  const weightsPath = join(directory, WEIGHTS_FILE);
  await writeWeights(weightsPath, plan, weights, checkpoint, { memory: 0 });
  const graphs = new Map(buildGraphs(spec, weights, WEIGHTS_FILE, precision));
  if (steering !== "projected") {
    const table = new GraphWeights(weights, WEIGHTS_FILE, precision);
    graphs.set("body", buildBody(spec, table, { steering, residuals: false }));
  }
  for (const [role, bytes] of graphs) await writeFile(join(directory, `${role}.onnx`), bytes);
  const tensors = await readReference(join(source, "reference.safetensors"));
  return {
    model: { spec, graphPath: (role) => join(directory, `${role}.onnx`), weightsPath, weights },
    config: checkpoint.config,
    directory,
    names: [...tensors.keys()],
    tensor: (key) => {
      const tensor = tensors.get(key);
      if (tensor === undefined) throw new Error(`the reference has no "${key}"`);
      return tensor;
    },
    [Symbol.asyncDispose]: () => rm(directory, { recursive: true, force: true }),
  };
}

/** Every tensor of a reference file; integers as floats, exact for token ids. */
async function readReference(path: string): Promise<Map<string, ReferenceTensor>> {
  const bytes = await readFile(path);
  const headerEnd = 8 + Number(bytes.readBigUInt64LE(0));
  const header = JSON.parse(bytes.toString("utf8", 8, headerEnd)) as Record<
    string,
    { dtype: string; shape: number[]; data_offsets: [number, number] }
  >;
  const tensors = new Map<string, ReferenceTensor>();
  for (const [name, { dtype, shape, data_offsets }] of Object.entries(header)) {
    if (name === "__metadata__") continue;
    const raw = new Uint8Array(bytes.subarray(headerEnd + data_offsets[0], headerEnd + data_offsets[1])).buffer;
    const data = dtype === "I64" ? Float32Array.from(new BigInt64Array(raw), Number) : new Float32Array(raw);
    tensors.set(name, { shape, data });
  }
  return tensors;
}
