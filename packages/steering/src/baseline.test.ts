import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { BaselineAccumulator, MAX_BASELINE_TOKENS } from "./baseline.ts";
import { largestDifference, reasonOf } from "./testing/support.ts";
import { norm } from "./vector-math.ts";

const shape = { layerCount: 2, hiddenSize: 3 };

/** Pool residuals [tokens][layers][hidden] as a capture does. */
function pooled(residuals: readonly (readonly Float32Array[])[]) {
  const sum = new Float32Array(shape.layerCount * shape.hiddenSize);
  for (const token of residuals) {
    for (const [layer, v] of token.entries()) {
      for (const [i, x] of v.entries())
        sum[layer * shape.hiddenSize + i] = (sum[layer * shape.hiddenSize + i] ?? 0) + x;
    }
  }
  return { norms: Float32Array.from(residuals.flatMap((token) => token.map(norm))), sum };
}

const residual = fc.float32Array({ min: -10, max: 10, noNaN: true, minLength: 3, maxLength: 3 });
const samples = fc.array(fc.array(fc.tuple(residual, residual), { minLength: 1, maxLength: 6 }), {
  minLength: 1,
  maxLength: 6,
});

describe("a baseline", () => {
  test("is the mean and the median over all tokens, however they come in samples", () => {
    fc.assert(
      fc.property(samples, (drawn) => {
        const accumulator = new BaselineAccumulator(shape);
        for (const sample of drawn) accumulator.add(pooled(sample));
        const { means, referenceNorms, tokenCount } = accumulator.finish();
        const tokens = drawn.flat();
        expect(tokenCount).toBe(tokens.length);
        for (let layer = 0; layer < shape.layerCount; layer++) {
          const at = tokens.map((token) => token[layer] as Float32Array);
          const mean = [0, 1, 2].map((i) => at.reduce((sum, v) => sum + (v[i] as number), 0) / at.length);
          expect(largestDifference(means[layer] as Float64Array, mean)).toBeLessThan(1e-5);
          const norms = at.map((v) => Math.fround(norm(v))).sort((a, b) => a - b);
          const middle = norms.length >> 1;
          const median =
            norms.length % 2 === 1 ? norms[middle] : ((norms[middle - 1] as number) + (norms[middle] as number)) / 2;
          expect(referenceNorms[layer]).toBe(Math.fround(median as number));
        }
      }),
    );
  });

  test("can be asked for, and grow on", () => {
    const accumulator = new BaselineAccumulator({ layerCount: 1, hiddenSize: 1 });
    accumulator.add({ norms: Float32Array.of(1), sum: Float32Array.of(1) });
    expect(accumulator.finish()).toMatchObject({ tokenCount: 1, referenceNorms: Float32Array.of(1) });
    accumulator.add({ norms: Float32Array.of(3, 5), sum: Float32Array.of(8) });
    expect(accumulator.finish()).toEqual({
      tokenCount: 3,
      means: [Float64Array.of(3)],
      referenceNorms: Float32Array.of(3),
    });
  });

  test("keeps a copy of what it is given", () => {
    const accumulator = new BaselineAccumulator({ layerCount: 1, hiddenSize: 1 });
    const sample = { norms: Float32Array.of(2), sum: Float32Array.of(2) };
    accumulator.add(sample);
    sample.norms[0] = 9;
    sample.sum[0] = 9;
    expect(accumulator.finish()).toMatchObject({ means: [Float64Array.of(2)], referenceNorms: Float32Array.of(2) });
  });
});

describe("a sample is refused, and nothing of it is kept,", () => {
  const good = { norms: Float32Array.of(1, 1), sum: Float32Array.of(1, 2, 3, 4, 5, 6) };
  test.each([
    ["with norms for half a token", { ...good, norms: new Float32Array(3) }, "SHAPE_MISMATCH"],
    ["with a sum of another width", { ...good, sum: new Float32Array(5) }, "SHAPE_MISMATCH"],
    ["with a NaN norm", { ...good, norms: Float32Array.of(1, Number.NaN) }, "VECTOR_NOT_FINITE"],
    ["with a negative norm", { ...good, norms: Float32Array.of(1, -1) }, "VECTOR_NOT_FINITE"],
    ["with an infinite sum", { ...good, sum: new Float32Array(6).fill(Number.POSITIVE_INFINITY) }, "VECTOR_NOT_FINITE"],
    ["over the limit", { ...good, norms: new Float32Array(2 * MAX_BASELINE_TOKENS) }, "BASELINE_TOO_LARGE"],
  ])("%s", (_, sample, reason) => {
    const accumulator = new BaselineAccumulator(shape);
    accumulator.add(good);
    const before = accumulator.finish();
    expect(reasonOf(() => accumulator.add(sample))).toBe(reason);
    expect(accumulator.finish()).toEqual(before);
  });
});

test("a baseline of nothing is refused", () => {
  expect(reasonOf(() => new BaselineAccumulator(shape).finish())).toBe("BASELINE_EMPTY");
  expect(() => new BaselineAccumulator({ layerCount: 0, hiddenSize: 3 })).toThrow(RangeError);
  expect(() => new BaselineAccumulator({ layerCount: 1, hiddenSize: 2.5 })).toThrow(RangeError);
});
