import { join } from "node:path";
import { HEAD, type PrecisionName, precisionOf } from "@persona-mesh/model/graph";
import { ModelRuntime, type RunnableModel } from "@persona-mesh/model/runtime";
import { useHugePages } from "@persona-mesh/onnx";
import { atLeast, atMost, context, type Figure } from "../figure.ts";
import { interleave } from "../interleave.ts";
import { residentBytes } from "../machine.ts";
import { MemoryReader } from "../memory-bandwidth.ts";
import { LLAMA_135M, writeRandomLlama } from "../models/random-llama.ts";
import { importStarter } from "../models/starter.ts";
import type { Bench, BenchContext } from "./bench.ts";

const BATCHES = [1, 4, 16] as const;
const PRECISIONS = ["float32", "int8", "int4"] as const satisfies PrecisionName[];
const BLOCKS = 31;
const RUNS = 5;
const POSITION = 64;
const TABLE_ROWS = 1024;
/** What decode steps use: one per physical core, at most two on the machines that the goals were set on. */
const BANDWIDTH_THREADS = 2;

/** Goals of the design, for the 135M shape. */
const GOAL = {
  bandwidthShare: { float32: 0.85, int8: 0.6, int4: undefined },
  scaling: { float32: 8, int8: undefined, int4: undefined },
  weightCopies: 1.4,
  fixedBytes: 300e6,
} as const;

export const decodeBench: Bench = {
  name: "decode",
  description: "tokens per second by precision and batch, against memory bandwidth; resident memory",
  run: async (bench) => {
    const figures: Figure[] = [];
    for (const precision of PRECISIONS) {
      bench.onProgress(`writing random weights of a 135M Llama shape, ${precision}`);
      const directory = join(bench.directory, `llama-135m-${precision}`);
      figures.push(
        ...(await measureShape(
          precision,
          () => writeRandomLlama(LLAMA_135M, directory, precisionOf(precision)),
          bench,
        )),
      );
    }
    bench.onProgress("starter model");
    figures.push(...(await measureStarter(await importStarter(bench.directory), bench)));
    return figures;
  },
};

async function measureShape(
  precision: (typeof PRECISIONS)[number],
  write: () => RunnableModel,
  { onProgress }: BenchContext,
): Promise<Figure[]> {
  const name = `llama-135m, ${precision}`;
  const model = write();
  const before = residentBytes();
  const table = new Float32Array(TABLE_ROWS * model.spec.hidden);
  using runtime = await ModelRuntime.open(model, { slots: Math.max(...BATCHES), table });
  const steps = decodeSteps(runtime);
  for (const step of Object.values(steps)) await step();
  // Before anything else is allocated: the reader's memory is not the model's.
  const resident = residentBytes() - before;
  const reader = new MemoryReader(BANDWIDTH_THREADS);
  // As the weights are: the limit is what memory gives, not what small pages leave of it.
  await useHugePages();
  onProgress(`${name}: decode at batch ${BATCHES.join(", ")}, memory bandwidth between`);
  const compared = await interleave({ ...steps, memory: () => reader.scan() }, { blocks: BLOCKS, runs: RUNS });
  const weightBytes = model.weights.reduce((sum, { byteLength }) => sum + byteLength, 0);
  // A step reads every matrix once; the tied embedding is read whole by the head.
  const share = compared.ratio("memory", "batch 1");
  const scaling = compared.ratio("batch 1", "batch 16");
  const scale = weightBytes / reader.bytes;
  const { quickest } = compared;
  const { bandwidthShare, scaling: leastScaling } = GOAL;
  const reach = (label: string, value: number, unit: string, goal: number | undefined) =>
    goal === undefined ? context(label, value, unit) : atLeast(label, value, unit, goal);
  const allowed = GOAL.weightCopies * weightBytes + runtime.cacheBytes + GOAL.fixedBytes;
  return [
    ...rates(name, compared.millis),
    reach(`${name}: batch 16 over batch 1`, 16 * scaling.median, "×", leastScaling[precision]),
    context(
      `${name}: memory read bandwidth, ${BANDWIDTH_THREADS} threads`,
      reader.bytes / compared.millis.memory / 1e6,
      "GB/s",
    ),
    context(`${name}: weights read at batch 1`, weightBytes / compared.millis["batch 1"] / 1e6, "GB/s"),
    reach(
      `${name}: weights read at batch 1 over memory bandwidth`,
      scale * share.median,
      "",
      bandwidthShare[precision],
    ),
    context(`${name}: the same, 95 % from`, scale * share.low, ""),
    context(`${name}: the same, 95 % to`, scale * share.high, ""),
    context(`${name}: the same, of the quickest runs`, (scale * quickest.memory) / quickest["batch 1"], ""),
    context(`${name}: weights`, weightBytes / 1e6, "MB"),
    context(`${name}: KV cache`, runtime.cacheBytes / 1e6, "MB"),
    atMost(`${name}: resident memory, all graphs loaded`, resident / 1e6, "MB", Math.round(allowed / 1e6)),
  ];
}

async function measureStarter(model: RunnableModel, { onProgress }: BenchContext): Promise<Figure[]> {
  const table = new Float32Array(TABLE_ROWS * model.spec.hidden);
  using runtime = await ModelRuntime.open(model, { slots: Math.max(...BATCHES), table });
  onProgress(`starter: decode at batch ${BATCHES.join(", ")}`);
  const { millis, ratio } = await interleave(decodeSteps(runtime), { blocks: BLOCKS, runs: RUNS });
  return [
    ...rates("starter, float32", millis),
    context("starter, float32: batch 16 over batch 1", 16 * ratio("batch 1", "batch 16").median, "×"),
  ];
}

type StepName = `batch ${(typeof BATCHES)[number]}`;

function decodeSteps(runtime: ModelRuntime): Record<StepName, () => Promise<void>> {
  const steps = BATCHES.map((batch) => [`batch ${batch}`, decodeStep(runtime, batch)]);
  return Object.fromEntries(steps) as Record<StepName, () => Promise<void>>;
}

function rates(name: string, millis: Readonly<Record<StepName, number>>): Figure[] {
  return BATCHES.map((batch) =>
    context(`${name}: batch ${batch}`, (1000 * batch) / millis[`batch ${batch}`], "tokens/s"),
  );
}

/** Body and top head, greedy: what a step of the engine runs. */
export function decodeStep(runtime: ModelRuntime, count: number, position = POSITION): () => Promise<void> {
  const body = runtime.decodeBatch(count);
  const head = runtime.headBatch("head-top", count);
  body.tokens.fill(7);
  body.lastPosition.fill(position);
  head.floats(HEAD.inverseTemperature).fill(1);
  const candidates = head.longs(HEAD.topIds).length / count;
  return async () => {
    await body.run();
    head.floats(HEAD.hidden).set(body.hidden);
    await head.run();
    for (let row = 0; row < count; row++) body.tokens[row] = Number(head.longs(HEAD.topIds)[row * candidates]);
  };
}
