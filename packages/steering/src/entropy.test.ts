import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { entropyOfLogits, entropyOfProbabilities, logSumExp } from "./entropy.ts";
import reference from "./fixtures/logits.json" with { type: "json" };
import { reasonOf, rowsOf } from "./testing/support.ts";

const logits = fc.float32Array({ min: -50, max: 50, noNaN: true, minLength: 1, maxLength: 60 });
const ruledOut = Number.NEGATIVE_INFINITY;

test.each(reference)("log-sum-exp and entropy agree with SciPy: $name", ({ p, width, logSumExp: sum, entropy }) => {
  const [row] = rowsOf(p, width) as [Float32Array];
  expect(logSumExp(row)).toBeCloseTo(sum, 9);
  expect(entropyOfLogits(row)).toBeCloseTo(entropy, 9);
});

describe("entropy", () => {
  test("of n equal logits is log n", () => {
    for (const n of [1, 2, 1000]) {
      expect(entropyOfLogits(new Float32Array(n).fill(7))).toBeCloseTo(Math.log(n), 12);
      expect(entropyOfProbabilities(new Float64Array(n).fill(1 / n))).toBeCloseTo(Math.log(n), 9);
    }
  });

  test("lies between 0 and log n, and does not move when all logits do", () => {
    fc.assert(
      fc.property(logits, fc.integer({ min: -1000, max: 1000 }), (row, shift) => {
        const entropy = entropyOfLogits(row);
        expect(entropy).toBeGreaterThanOrEqual(0);
        expect(entropy).toBeLessThanOrEqual(Math.log(row.length) + 1e-9);
        expect(entropyOfLogits(Float64Array.from(row, (x) => x + shift))).toBeCloseTo(entropy, 8);
      }),
    );
  });

  test("of logits is that of their probabilities", () => {
    fc.assert(
      fc.property(logits, (row) => {
        const sum = logSumExp(row);
        const probabilities = Float64Array.from(row, (x) => Math.exp(x - sum));
        expect(entropyOfProbabilities(probabilities)).toBeCloseTo(entropyOfLogits(row), 9);
      }),
    );
  });

  test("is the same with tokens that are ruled out", () => {
    const masked = Float32Array.of(1, ruledOut, 2, ruledOut);
    expect(entropyOfLogits(masked)).toBeCloseTo(entropyOfLogits(Float32Array.of(1, 2)), 12);
    expect(logSumExp(masked)).toBeCloseTo(logSumExp(Float32Array.of(1, 2)), 12);
    expect(entropyOfProbabilities(Float64Array.of(0, 1, 0))).toBe(0);
  });

  test("survives logits whose exponentials overflow", () => {
    expect(entropyOfLogits(Float32Array.of(3e38, 3e38))).toBeCloseTo(Math.LN2, 12);
    expect(entropyOfLogits(Float32Array.of(-3e38, 3e38))).toBe(0);
  });
});

describe("what is no distribution is refused:", () => {
  test.each([
    ["no logits", new Float32Array(0)],
    ["a NaN", Float32Array.of(1, Number.NaN)],
    ["an infinite logit", Float32Array.of(1, Number.POSITIVE_INFINITY)],
    ["everything ruled out", Float32Array.of(ruledOut, ruledOut)],
  ])("%s", (_, row) => {
    expect(reasonOf(() => logSumExp(row))).toBe("LOGITS_INVALID");
    expect(reasonOf(() => entropyOfLogits(row))).toBe("LOGITS_INVALID");
  });

  test.each([
    ["a negative probability", Float64Array.of(1.5, -0.5)],
    ["a NaN", Float64Array.of(1, Number.NaN)],
    ["a sum other than 1", Float64Array.of(0.5, 0.4)],
    ["nothing", new Float64Array(0)],
  ])("%s", (_, probabilities) => {
    expect(reasonOf(() => entropyOfProbabilities(probabilities))).toBe("LOGITS_INVALID");
  });
});
