import { HEAD } from "../graph/index.ts";
import type { BodyBatch, ModelRuntime } from "../runtime/index.ts";
import { drawTokens } from "./pseudo-random.ts";

/** How one row of a probe is steered. */
export interface ProbeSteering {
  /** Table row by layer, int[layers]. */
  readonly rows: readonly number[];
  readonly gain: number;
  readonly renorm: boolean;
}

/** What a run gave; copies, so that the next run does not change them. */
export interface ProbeResult {
  /** float32[positions, hidden], after the final norm. */
  readonly hidden: Float32Array;
  /** float32[positions, layers]; empty where the graph has no such output. */
  readonly projections: Float32Array;
  /** float32[positions, layers, hidden]; empty without residuals. */
  readonly residuals: Float32Array;
}

/** Sequences whose KV is held: one that is watched and others beside it. */
export const PROBE_SLOTS = 4;

/** Positions of a sequence: enough for several chunks; the cache stays small whatever the model. */
export const PROBE_CONTEXT = 64;

/**
 * Runs a model as a worker does, a few tokens at a time, and keeps what comes out.
 *
 * Each layer that is steered has a row of the table to itself, so that a mix-up of layers shows.
 */
export class Probe {
  readonly runtime: ModelRuntime;
  /** float32[rows, hidden]: the steering table of the runtime. Row 0 stays all zeros. Written between runs only. */
  readonly table: Float32Array;
  /** Layers that are tried, in ascending order; row i + 1 of the table is the i-th one's. */
  readonly steerable: readonly number[];

  /** @param steerable - fewer than the table has rows. @default every layer */
  constructor(runtime: ModelRuntime, table: Float32Array, steerable?: readonly number[]) {
    this.runtime = runtime;
    this.table = table;
    this.steerable = steerable ?? Array.from({ length: runtime.spec.layers }, (_, layer) => layer);
  }

  get layers(): number {
    return this.runtime.spec.layers;
  }

  get hidden(): number {
    return this.runtime.spec.hidden;
  }

  /** Pseudo-random token ids, at most as many as fit the context with one to spare. */
  tokens(seed: number, count: number): number[] {
    return drawTokens(seed, Math.max(1, Math.min(count, this.runtime.contextTokens - 1)), this.runtime.spec.vocabulary);
  }

  unsteered(): ProbeSteering {
    return { rows: new Array<number>(this.layers).fill(0), gain: 0, renorm: false };
  }

  /** Each of `layers`, which are {@link steerable}, by its own table row. */
  steeredAt(layers: readonly number[], gain = 1, renorm = false): ProbeSteering {
    const rows = new Array<number>(this.layers).fill(0);
    for (const layer of layers) rows[layer] = this.#rowOf(layer);
    return { rows, gain, renorm };
  }

  /** Give a layer its row. */
  setRow(layer: number, row: Float32Array): void {
    this.table.set(row, this.#rowOf(layer) * this.hidden);
  }

  row(layer: number): Float32Array {
    const row = this.#rowOf(layer);
    return this.table.subarray(row * this.hidden, (row + 1) * this.hidden);
  }

  /**
   * Positions [start, end) of a sequence in one run.
   *
   * @param residuals - by the graph that gives them out, instead of the serving one
   */
  async chunk(
    slot: number,
    tokens: readonly number[],
    [start, end]: readonly [number, number],
    steering: ProbeSteering,
    residuals: boolean,
  ): Promise<ProbeResult> {
    const length = end - start;
    using batch = this.runtime.chunkBatch(slot, { sequence: length, selected: length }, { residuals });
    batch.tokens.set(tokens.slice(start, end));
    batch.lastPosition[0] = end - 1;
    batch.select.set(Array.from({ length }, (_, i) => i));
    this.#steer(batch, 0, steering);
    await batch.run();
    return {
      hidden: batch.hidden.slice(),
      projections: batch.projections.slice(),
      residuals: batch.residuals.slice(),
    };
  }

  /** One step of slots 0 … n − 1, each reading one token at its own position. @returns float32[n, hidden] */
  async step(
    rows: readonly { readonly token: number; readonly position: number; readonly steering: ProbeSteering }[],
  ): Promise<Float32Array> {
    const batch = this.runtime.decodeBatch(rows.length);
    for (const [row, { token, position, steering }] of rows.entries()) {
      batch.tokens[row] = token;
      batch.lastPosition[row] = position;
      this.#steer(batch, row, steering);
    }
    await batch.run();
    return batch.hidden.slice();
  }

  /** Every logit of hidden states, float32[positions, vocabulary]. */
  async logits(hidden: Float32Array): Promise<Float32Array> {
    const head = this.runtime.headBatch("head-logits", hidden.length / this.hidden);
    head.floats(HEAD.hidden).set(hidden);
    await head.run();
    return head.floats(HEAD.logits).slice();
  }

  #rowOf(layer: number): number {
    const index = this.steerable.indexOf(layer);
    if (index < 0) throw new RangeError(`layer ${layer} has no row of the table`);
    return index + 1;
  }

  #steer(batch: BodyBatch, row: number, { rows, gain, renorm }: ProbeSteering): void {
    batch.rows.set(rows, row * this.layers);
    batch.gain[row] = gain;
    batch.renorm[row] = renorm ? 1 : 0;
  }
}

/** Whether two arrays hold the same numbers; the sign of zero, which no computation sees, may differ. */
export function isSame(a: Float32Array, b: Float32Array): boolean {
  return a.length === b.length && a.every((value, i) => value === b[i]);
}

/** max |a − b|; NaN where either has one. */
export function maxDifference(a: Float32Array, b: Float32Array): number {
  if (a.length !== b.length) return Number.NaN;
  let worst = 0;
  for (let i = 0; i < a.length; i++) {
    const difference = Math.abs((a[i] as number) - (b[i] as number));
    if (!(difference <= worst)) worst = difference;
    if (Number.isNaN(worst)) return worst;
  }
  return worst;
}

/** Largest minus smallest, without the array on the stack. */
export function spreadOf(values: Float32Array): number {
  let [least, most] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
  for (const value of values) {
    least = Math.min(least, value);
    most = Math.max(most, value);
  }
  return most - least;
}
