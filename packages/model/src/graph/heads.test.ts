import { describe, expect, it } from "vitest";
import { type HeadBatch, ModelRuntime } from "../runtime/index.ts";
import { REFERENCE_MODELS, referenceModel } from "../testing/reference-model.ts";
import { HEAD, logSumExp } from "./heads.ts";
import { FLOAT32, type Precision, precisionOf } from "./precision.ts";

/** float32 kernels against float64 sums over a vocabulary of about 60: a few units in the seventh digit. */
const TOLERANCE = 1e-4;

const ROWS = 3;
const TEMPERATURES = [1, 0.5, 2.5];

/** Logits of the reference as a given row's distribution: probabilities, log Σ exp and entropy in float64. */
function exactly(logits: readonly number[], temperature = 1) {
  const scaled = logits.map((x) => x / temperature);
  const max = Math.max(...scaled);
  const logSumExp = max + Math.log(scaled.reduce((sum, x) => sum + Math.exp(x - max), 0));
  const logProbs = scaled.map((x) => x - logSumExp);
  const entropy = -logProbs.reduce((sum, x) => sum + Math.exp(x) * x, 0);
  return { logSumExp, logProbs, entropy };
}

const read = (head: HeadBatch, name: string, row: number) => head.floats(name)[row] as number;

const normalizerOf = (head: HeadBatch, row: number) =>
  logSumExp(read(head, HEAD.maxLogit, row), read(head, HEAD.maxProbability, row));

/** Every model in float32, and every format that a head can have. */
const CASES: readonly (readonly [name: string, format: string, Precision])[] = [
  ...REFERENCE_MODELS.map((name) => [name, "float32", FLOAT32] as const),
  ["plain-tied", "int8", precisionOf("int8")],
  ["grouped-untied", "int4", precisionOf("int4", { head: "int4" })],
  ["gemma2", "int4 in blocks of 128", precisionOf("int4", { head: "int4", block: 128 })],
];

describe.each(CASES)("heads of %s in %s", (name, _format, precision) => {
  async function setUp() {
    const reference = await referenceModel(name, { precision });
    const { hidden, vocabulary } = reference.model.spec;
    const runtime = await ModelRuntime.open(reference.model, { slots: 4, table: new Float32Array(hidden), threads: 1 });
    const states = Float32Array.from({ length: ROWS * hidden }, (_, i) => 3 * Math.sin(1.7 * i + 0.01 * i * i));
    const head = runtime.headBatch("head-logits", ROWS);
    head.floats(HEAD.hidden).set(states);
    await head.run();
    const flat = head.floats(HEAD.logits);
    const logits = Array.from({ length: ROWS }, (_, row) => [
      ...flat.subarray(row * vocabulary, (row + 1) * vocabulary),
    ]);
    return { runtime, states, logits, reference, vocabulary };
  }

  it("top head: the largest logits in order, with the sums over the whole vocabulary", async () => {
    const { runtime, states, logits, reference, vocabulary } = await setUp();
    await using _ = reference;
    using __ = runtime;
    const head = runtime.headBatch("head-top", ROWS);
    head.floats(HEAD.hidden).set(states);
    head.floats(HEAD.inverseTemperature).set(TEMPERATURES.map((temperature) => 1 / temperature));
    await head.run();
    const candidates = head.floats(HEAD.topLogits).length / ROWS;
    expect(candidates).toBe(Math.min(64, vocabulary));
    for (const [row, own] of logits.entries()) {
      const order = own.map((logit, id) => ({ logit, id })).sort((a, b) => b.logit - a.logit || a.id - b.id);
      const ids = [...head.longs(HEAD.topIds).subarray(row * candidates, (row + 1) * candidates)].map(Number);
      expect(ids).toEqual(order.slice(0, candidates).map(({ id }) => id));
      const wanted = exactly(own);
      const sum = normalizerOf(head, row);
      expect(Math.abs(sum - wanted.logSumExp)).toBeLessThan(TOLERANCE);
      expect(Math.abs(sum - read(head, HEAD.expectedLogit, row) - wanted.entropy)).toBeLessThan(TOLERANCE);
      const tempered = logSumExp(
        read(head, HEAD.maxLogit, row) / (TEMPERATURES[row] as number),
        read(head, HEAD.temperedMaxProbability, row),
      );
      expect(Math.abs(tempered - exactly(own, TEMPERATURES[row]).logSumExp)).toBeLessThan(TOLERANCE);
    }
    // Else a head that ignores the temperature would pass.
    expect(
      Math.abs(exactly(logits[1] as number[], 0.5).logSumExp - exactly(logits[1] as number[]).logSumExp),
    ).toBeGreaterThan(0.1);
  });

  it("top head: what is not a number shows in its own row and nowhere else", async () => {
    const { runtime, states, reference } = await setUp();
    await using _ = reference;
    using __ = runtime;
    const { hidden } = runtime.spec;
    const head = runtime.headBatch("head-top", ROWS);
    const names = [HEAD.maxLogit, HEAD.maxProbability, HEAD.temperedMaxProbability, HEAD.expectedLogit];
    const run = async () => {
      head.floats(HEAD.inverseTemperature).fill(1);
      await head.run();
      return [0, 2].map((row) => names.map((name) => read(head, name, row)));
    };
    head.floats(HEAD.hidden).set(states);
    const clean = await run();
    for (const value of [Number.NaN, Number.POSITIVE_INFINITY]) {
      head.floats(HEAD.hidden).fill(value, hidden, 2 * hidden);
      expect(await run()).toEqual(clean);
      expect(read(head, HEAD.maxProbability, 1)).toBeNaN();
    }
  });

  it("score head: the log-probability of one given token per row", async () => {
    const { runtime, states, logits, reference, vocabulary } = await setUp();
    await using _ = reference;
    using __ = runtime;
    const head = runtime.headBatch("head-score", ROWS);
    const ids = [0, vocabulary - 1, 17];
    head.floats(HEAD.hidden).set(states);
    head.ints(HEAD.ids).set(ids);
    await head.run();
    for (const [row, own] of logits.entries()) {
      const { logProbs, entropy } = exactly(own);
      const wanted = logProbs[ids[row] as number] as number;
      const sum = normalizerOf(head, row);
      expect(Math.abs(read(head, HEAD.pickedLogit, row) - sum - wanted)).toBeLessThan(TOLERANCE);
      expect(Math.abs(sum - read(head, HEAD.expectedLogit, row) - entropy)).toBeLessThan(TOLERANCE);
    }
  });

  it("divergence head: KL of each row to the other state's, 0 to itself", async () => {
    const { runtime, states, logits, reference } = await setUp();
    await using _ = reference;
    using __ = runtime;
    const { hidden } = runtime.spec;
    const head = runtime.headBatch("head-divergence", ROWS);
    head.floats(HEAD.hidden).set(states);
    // Row 0 against itself, 1 against 2, 2 against 0.
    for (const [row, other] of [0, 2, 0].entries()) {
      head.floats(HEAD.otherHidden).set(states.subarray(other * hidden, (other + 1) * hidden), row * hidden);
    }
    await head.run();
    for (const [row, other] of [0, 2, 0].entries()) {
      const p = exactly(logits[row] as number[]).logProbs;
      const q = exactly(logits[other] as number[]).logProbs;
      const wanted = p.reduce((sum, x, id) => sum + Math.exp(x) * (x - (q[id] as number)), 0);
      const others = logSumExp(read(head, HEAD.otherMaxLogit, row), read(head, HEAD.otherMaxProbability, row));
      const divergence = read(head, HEAD.expectedDifference, row) - normalizerOf(head, row) + others;
      expect(Math.abs(divergence - wanted)).toBeLessThan(TOLERANCE);
      if (row !== other) expect(wanted).toBeGreaterThan(0.1);
    }
  });
});
