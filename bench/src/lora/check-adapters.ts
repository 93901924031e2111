import { closeSync, openSync, readSync, writeSync } from "node:fs";
import { join } from "node:path";
import { type DecoderSpec, HEAD } from "@persona-mesh/model/graph";
import { HeadBatch, type RunnableModel } from "@persona-mesh/model/runtime";
import { Session, SharedWeights } from "@persona-mesh/onnx";
import { LLAMA_135M, writeRandomLlama } from "../models/random-llama.ts";
import { AdapterPool } from "./adapter-pool.ts";
import { LoraBodies } from "./lora-bodies.ts";
import { type AdapterSource, RANK } from "./lora-weights.ts";

const TINY: DecoderSpec = {
  ...LLAMA_135M,
  layers: 3,
  hidden: 64,
  heads: 4,
  kvHeads: 2,
  headDim: 16,
  intermediate: 96,
  vocabulary: 256,
  contextTokens: 16,
  attention: { ...LLAMA_135M.attention, scale: 0.25 },
  ropes: [{ theta: 10_000, rotaryDim: 16, scaling: { kind: "none" } }],
  layerKinds: LLAMA_135M.layerKinds.slice(0, 3),
};

const ADAPTERS = 3;
/** So that what an adapter adds is about as large as what the weights give. */
const SCALE = 0.15;
/** More than one, so that keys and values of adapted projections are read too. */
const STEPS = 4;

export interface AdapterCheck {
  /** Largest difference of a logit between adapters beside the weights and adapters in them. */
  readonly error: number;
  /** Largest difference of a logit that an adapter makes; the least of all adapters. */
  readonly effect: number;
}

/**
 * Whether the graphs with adapters compute what LoRA is: every adapter is merged into a copy of a tiny model's weights, and
 * each row of a batch of different adapters has the logits of its own copy.
 *
 * @param directory - scratch
 */
export async function checkAdapters(directory: string): Promise<AdapterCheck> {
  using pool = new AdapterPool(TINY, ADAPTERS, SCALE);
  const base = writeRandomLlama(TINY, join(directory, "lora-base"));
  const plain = await logitsOf(base, pool, "off");
  const merged: Float32Array[] = [];
  for (let adapter = 0; adapter < ADAPTERS; adapter++) {
    const copy = writeRandomLlama(TINY, join(directory, `lora-merged-${adapter}`));
    merge(copy, pool, adapter);
    merged.push(await logitsOf(copy, pool, "off"));
  }
  const { vocabulary } = TINY;
  const rowOf = (logits: Float32Array, row: number) => logits.subarray(row * vocabulary, (row + 1) * vocabulary);
  const gathered = await logitsOf(base, pool, "gathered");
  const placed = await logitsOf(base, pool, "placed");
  const shared = await logitsOf(base, pool, "shared");
  const errors = merged.flatMap((own, row) => [
    largestDifference(rowOf(gathered, row), rowOf(own, row)),
    largestDifference(rowOf(placed, row), rowOf(own, row)),
    largestDifference(rowOf(shared, row), rowOf(merged[0] as Float32Array, row)),
  ]);
  const effects = merged.map((own, row) => largestDifference(rowOf(own, row), rowOf(plain, row)));
  return { error: Math.max(...errors), effect: Math.min(...effects) };
}

/** float32[ADAPTERS, vocabulary] after some steps; row i wears adapter i, or all wear the first. */
async function logitsOf(model: RunnableModel, pool: AdapterPool, kind: "off" | AdapterSource): Promise<Float32Array> {
  const table = new Float32Array(2 * TINY.hidden);
  using bodies = await LoraBodies.open(model, ADAPTERS, table, pool);
  const batch = bodies.decode(
    kind,
    ADAPTERS,
    0,
    Int32Array.from({ length: ADAPTERS }, (_, row) => row),
  );
  for (let step = 0; step < STEPS; step++) {
    batch.lastPosition.fill(step);
    batch.tokens.forEach((_, row) => {
      batch.tokens[row] = 11 + 7 * step + 3 * row;
    });
    await batch.run();
  }
  const weights = SharedWeights.open(
    model.weightsPath,
    model.weights.map(({ dtype, ...rest }) => ({ ...rest, type: dtype })),
  );
  const session = await Session.load(model.graphPath("head-logits"), { weights });
  try {
    using head = new HeadBatch(session, TINY, ADAPTERS);
    head.floats(HEAD.hidden).set(batch.hidden);
    await head.run();
    return head.floats(HEAD.logits).slice();
  } finally {
    session.close();
    weights.close();
  }
}

/** Add A · B of an adapter to the matrices of a float32 model, which are stored as [in, out]. */
function merge({ weightsPath, weights }: RunnableModel, pool: AdapterPool, adapter: number): void {
  const file = openSync(weightsPath, "r+");
  for (const { matrix, down, up } of pool.factors) {
    const location = weights.find(({ name }) => name === matrix.weight);
    if (location === undefined) throw new Error(`the model has no "${matrix.weight}"`);
    const { in: inputs, out } = matrix;
    const values = new Float32Array(inputs * out);
    readSync(file, new Uint8Array(values.buffer), 0, location.byteLength, location.offset);
    for (let row = 0; row < inputs; row++) {
      for (let inner = 0; inner < RANK; inner++) {
        const factor = down[(adapter * inputs + row) * RANK + inner] as number;
        const from = (adapter * RANK + inner) * out;
        for (let column = 0; column < out; column++) {
          values[row * out + column] = (values[row * out + column] as number) + factor * (up[from + column] as number);
        }
      }
    }
    writeSync(file, new Uint8Array(values.buffer), 0, location.byteLength, location.offset);
  }
  closeSync(file);
}

function largestDifference(left: Float32Array, right: Float32Array): number {
  return left.reduce((largest, value, i) => Math.max(largest, Math.abs(value - (right[i] as number))), 0);
}
