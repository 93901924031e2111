import type { ModelRuntime } from "@persona-mesh/model/runtime";

/** Below, prompts would be read hardly faster than replies are written. */
const LEAST = 16;
/** Above, a longer chunk reads a prompt no faster: the weights are read once per chunk, and that is little by then. */
const MOST = 512;
/** The first run of an extent prepares it; of the others, the fastest is what the machine can do. */
const RUNS = 3;

export interface ChunkSize {
  readonly chunkTokens: number;
  /** Of a chunk of that size at the end of the context. */
  readonly millis: number;
}

/**
 * The largest power of two whose chunk the machine computes in time, measured where a chunk takes longest: at the end of
 * the context. Before the first job: it writes into the first slot.
 *
 * @param maxMillis - what a chunk may take
 * @returns the smallest size where even that takes longer
 */
export async function measureChunkSize(runtime: ModelRuntime, maxMillis: number): Promise<ChunkSize> {
  let best: ChunkSize | undefined;
  for (let tokens = LEAST; tokens <= Math.min(MOST, runtime.contextTokens); tokens *= 2) {
    const millis = await fastestRun(runtime, tokens);
    if (best !== undefined && millis > maxMillis) return best;
    best = { chunkTokens: tokens, millis };
    if (millis > maxMillis) return best;
  }
  return best ?? { chunkTokens: LEAST, millis: await fastestRun(runtime, runtime.contextTokens) };
}

async function fastestRun(runtime: ModelRuntime, tokens: number): Promise<number> {
  using batch = runtime.chunkBatch(0, { sequence: tokens, selected: 1 });
  batch.lastPosition[0] = runtime.contextTokens - 1;
  batch.select[0] = tokens - 1;
  let fastest = Number.POSITIVE_INFINITY;
  for (let run = 0; run < RUNS; run++) {
    const started = performance.now();
    await batch.run();
    fastest = Math.min(fastest, performance.now() - started);
  }
  return fastest;
}
