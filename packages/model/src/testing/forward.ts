import { type DecoderSpec, HEAD } from "../graph/index.ts";
import type { ModelRuntime } from "../runtime/index.ts";

/** How a test steers one run. */
export interface TestSteering {
  /** Table row by layer, int[layers]. */
  readonly rows: readonly number[];
  readonly gain: number;
  readonly renorm: boolean;
}

export interface Forward {
  /** float32[positions, vocabulary] */
  readonly logits: Float32Array;
  /** float32[positions, layers, hidden] */
  readonly residuals: Float32Array;
  /** float32[positions, layers] */
  readonly projections: Float32Array;
}

/**
 * Run a sequence through one slot, piece by piece, with the residuals of all layers.
 *
 * @param pieces - [start, end) in order, covering the sequence
 * @param steeringOf - of the piece that starts there
 */
export async function forward(
  runtime: ModelRuntime,
  slot: number,
  tokens: readonly number[],
  pieces: readonly (readonly [number, number])[],
  steeringOf: (start: number) => TestSteering,
): Promise<Forward> {
  const { layers, hidden, vocabulary } = runtime.spec;
  const result = {
    logits: new Float32Array(tokens.length * vocabulary),
    residuals: new Float32Array(tokens.length * layers * hidden),
    projections: new Float32Array(tokens.length * layers),
  };
  for (const [start, end] of pieces) {
    const length = end - start;
    using batch = runtime.chunkBatch(slot, { sequence: length, selected: length }, { residuals: true });
    const steering = steeringOf(start);
    batch.tokens.set(tokens.slice(start, end));
    batch.lastPosition[0] = end - 1;
    batch.select.set(Array.from({ length }, (_, i) => i));
    batch.rows.set(steering.rows);
    batch.gain[0] = steering.gain;
    batch.renorm[0] = steering.renorm ? 1 : 0;
    await batch.run();
    const head = runtime.headBatch("head-logits", length);
    head.floats(HEAD.hidden).set(batch.hidden);
    await head.run();
    result.logits.set(head.floats(HEAD.logits), start * vocabulary);
    result.residuals.set(batch.residuals, start * layers * hidden);
    result.projections.set(batch.projections, start * layers);
  }
  return result;
}

/** No persona, in every layer. */
export function unsteered({ layers }: Pick<DecoderSpec, "layers">): TestSteering {
  return { rows: new Array<number>(layers).fill(0), gain: 0, renorm: false };
}

/** One piece of one token after another. */
export function tokenByToken(from: number, to: number): [number, number][] {
  return Array.from({ length: to - from }, (_, i) => [from + i, from + i + 1]);
}

export function maxAbsDifference(a: ArrayLike<number>, b: ArrayLike<number>): number {
  if (a.length !== b.length) throw new Error(`${a.length} values against ${b.length}`);
  let worst = 0;
  for (let i = 0; i < a.length; i++) worst = Math.max(worst, Math.abs((a[i] as number) - (b[i] as number)));
  return worst;
}

/** Cosine of the angle between two vectors of the same length. */
export function cosine(a: ArrayLike<number>, b: ArrayLike<number>): number {
  if (a.length !== b.length) throw new Error(`${a.length} values against ${b.length}`);
  let [dot, squaresA, squaresB] = [0, 0, 0];
  for (let i = 0; i < a.length; i++) {
    const [x, y] = [a[i] as number, b[i] as number];
    dot += x * y;
    squaresA += x * x;
    squaresB += y * y;
  }
  return dot / Math.sqrt(squaresA * squaresB);
}
