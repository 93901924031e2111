import { join } from "node:path";
import { HEAD } from "@persona-mesh/model/graph";
import { ModelRuntime, type RunnableModel } from "@persona-mesh/model/runtime";
import { atLeast, atMost, context, type Figure } from "../figure.ts";
import { interleave } from "../interleave.ts";
import { residentBytes } from "../machine.ts";
import { readBandwidth } from "../memory-bandwidth.ts";
import { LLAMA_135M, writeRandomLlama } from "../models/random-llama.ts";
import { importStarter } from "../models/starter.ts";
import type { Bench, BenchContext } from "./bench.ts";

const BATCHES = [1, 4, 16] as const;
const BLOCKS = 31;
const RUNS = 5;
const POSITION = 64;
const TABLE_ROWS = 1024;
/** What decode steps use: one per physical core, at most two on the machines that the goals were set on. */
const BANDWIDTH_THREADS = 2;

const GOAL = { bandwidthShare: 0.85, scaling: 8, weightCopies: 1.4, fixedBytes: 300e6 };

export const decodeBench: Bench = {
  name: "decode",
  description: "tokens per second by batch, against memory bandwidth; resident memory",
  run: async (bench) => {
    const before = residentBytes();
    bench.onProgress("writing random weights of a 135M Llama shape");
    const random = writeRandomLlama(LLAMA_135M, join(bench.directory, "llama-135m"));
    // Memory first: nothing measured before has left anything behind.
    const figures = await measure("llama-135m", random, bench, before);
    bench.onProgress("starter model");
    figures.push(...(await measure("starter", await importStarter(bench.directory), bench, undefined)));
    return figures;
  },
};

async function measure(
  name: string,
  model: RunnableModel,
  { onProgress }: BenchContext,
  bytesBefore: number | undefined,
): Promise<Figure[]> {
  const { spec } = model;
  const table = new Float32Array(TABLE_ROWS * spec.hidden);
  using runtime = await ModelRuntime.open(model, { slots: Math.max(...BATCHES), table });
  const steps = Object.fromEntries(BATCHES.map((batch) => [`batch ${batch}`, decodeStep(runtime, batch)]));
  onProgress(`${name}: decode at batch ${BATCHES.join(", ")}`);
  const { millis } = await interleave(steps, { blocks: BLOCKS, runs: RUNS });
  const rate = (batch: number) => batch / ((millis[`batch ${batch}`] as number) / 1000);
  const isGoal = bytesBefore !== undefined;
  const figures = BATCHES.map((batch) => context(`${name}: batch ${batch}`, rate(batch), "tokens/s"));
  const scaling = rate(16) / rate(1);
  figures.push(
    isGoal
      ? atLeast(`${name}: batch 16 over batch 1`, scaling, "×", GOAL.scaling)
      : context(`${name}: batch 16 over batch 1`, scaling, "×"),
  );
  if (bytesBefore === undefined) return figures;

  const resident = residentBytes() - bytesBefore;
  const weightBytes = model.weights.reduce((sum, { byteLength }) => sum + byteLength, 0);
  onProgress("memory bandwidth");
  const bandwidth = await readBandwidth(BANDWIDTH_THREADS);
  // A step reads every matrix once; the tied embedding is read whole by the head.
  const readRate = weightBytes * rate(1);
  const allowed = GOAL.weightCopies * weightBytes + runtime.cacheBytes + GOAL.fixedBytes;
  return [
    ...figures,
    context(`${name}: memory read bandwidth, ${BANDWIDTH_THREADS} threads`, bandwidth / 1e9, "GB/s"),
    context(`${name}: weights read at batch 1`, readRate / 1e9, "GB/s"),
    atLeast(`${name}: weights read at batch 1 over memory bandwidth`, readRate / bandwidth, "", GOAL.bandwidthShare),
    context(`${name}: weights`, weightBytes / 1e6, "MB"),
    context(`${name}: KV cache`, runtime.cacheBytes / 1e6, "MB"),
    atMost(`${name}: resident memory, all graphs loaded`, resident / 1e6, "MB", Math.round(allowed / 1e6)),
  ];
}

/** Body and top head, greedy: what a step of the engine runs. */
function decodeStep(runtime: ModelRuntime, count: number): () => Promise<void> {
  const body = runtime.decodeBatch(count);
  const head = runtime.headBatch("head-top", count);
  body.tokens.fill(7);
  body.lastPosition.fill(POSITION);
  head.floats(HEAD.inverseTemperature).fill(1);
  const candidates = head.longs(HEAD.topIds).length / count;
  return async () => {
    await body.run();
    head.floats(HEAD.hidden).set(body.hidden);
    await head.run();
    for (let row = 0; row < count; row++) body.tokens[row] = Number(head.longs(HEAD.topIds)[row * candidates]);
  };
}
