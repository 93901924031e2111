import { join } from "node:path";
import { type DecoderSpec, type PrecisionName, precisionOf } from "@persona-mesh/model/graph";
import { ModelRuntime } from "@persona-mesh/model/runtime";
import { context, type Figure } from "../figure.ts";
import { interleave } from "../interleave.ts";
import { PeakProduct } from "../models/peak-product.ts";
import { LLAMA_135M, writeRandomLlama } from "../models/random-llama.ts";
import type { Bench, BenchContext } from "./bench.ts";

const LENGTHS = [128, 512, 2048] as const;
const PRECISIONS = ["float32", "int8", "int4"] as const satisfies PrecisionName[];
/** As a worker cuts prompts, unless told otherwise. */
const CHUNK_TOKENS = 128;
/** Long prompts take seconds; their ratios vary little. */
const BLOCKS = 11;

export const prefillBench: Bench = {
  name: "prefill",
  description: "prompt tokens per second by precision and length, against the arithmetic peak of the runtime",
  run: async (bench) => {
    const figures: Figure[] = [];
    for (const precision of PRECISIONS) figures.push(...(await measure(precision, bench)));
    return figures;
  },
};

async function measure(name: (typeof PRECISIONS)[number], bench: BenchContext): Promise<Figure[]> {
  const precision = precisionOf(name);
  const spec = { ...LLAMA_135M, contextTokens: Math.max(...LENGTHS) };
  const label = `llama-135m, ${name}`;
  bench.onProgress(`${label}: writing random weights`);
  const model = writeRandomLlama(spec, join(bench.directory, `llama-135m-${name}`), precision);
  using runtime = await ModelRuntime.open(model, { slots: 1, table: new Float32Array(2 * spec.hidden) });
  using peak = await PeakProduct.open(precision.linear);
  const prompts = Object.fromEntries(LENGTHS.map((length) => [`${length}`, () => prefill(runtime, length)])) as Record<
    `${(typeof LENGTHS)[number]}`,
    () => Promise<void>
  >;
  bench.onProgress(`${label}: prompts of ${LENGTHS.join(", ")} tokens, a large product between`);
  const compared = await interleave({ ...prompts, peak: () => peak.run() }, { blocks: BLOCKS, runs: 1 });
  const peakRate = peak.operations / compared.millis.peak / 1e6;
  return [
    context(`${label}: a product of 256 × 2048 × 2048`, peakRate, "G operations/s"),
    ...LENGTHS.flatMap((length) => {
      // Of the peak's rate in the same block, not of its median: the machine is not the same a minute later.
      const ratio = compared.ratio("peak", `${length}`);
      const share = operations(spec, length) / peak.operations;
      const prompt = `${label}: prompt of ${length} tokens`;
      return [
        context(prompt, length / (compared.millis[`${length}`] / 1000), "tokens/s"),
        context(`${prompt}, share of the product's rate`, share * ratio.median, ""),
        context(`${prompt}, the same, 95 % from`, share * ratio.low, ""),
        context(`${prompt}, the same, 95 % to`, share * ratio.high, ""),
      ];
    }),
  ];
}

/** One prompt into the slot, in chunks; the last gives the hidden state that the first token is drawn from. */
async function prefill(runtime: ModelRuntime, length: number): Promise<void> {
  for (let start = 0; start < length; start += CHUNK_TOKENS) {
    const sequence = Math.min(CHUNK_TOKENS, length - start);
    const batch = runtime.chunkBatch(0, { sequence, selected: 1 }, { keep: true });
    batch.tokens.fill(7);
    batch.select[0] = sequence - 1;
    batch.lastPosition[0] = start + sequence - 1;
    await batch.run();
  }
}

/**
 * Operations that a prompt needs: two for every weight of the layers and token, and those of attention, where a position
 * sees itself and what is before it.
 */
function operations(spec: DecoderSpec, length: number): number {
  const { layers, hidden, heads, kvHeads, headDim, intermediate } = spec;
  const weights = hidden * (heads + 2 * kvHeads) * headDim + heads * headDim * hidden + 3 * hidden * intermediate;
  const attention = (2 * 2 * heads * headDim * length * (length + 1)) / 2;
  return layers * (2 * weights * length + attention);
}
