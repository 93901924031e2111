import fc from "fast-check";
import { expect, test } from "vitest";
import { auc } from "./auc.ts";

const scores = fc.array(fc.integer({ min: -5, max: 5 }), { minLength: 1, maxLength: 20 });

test("is the share of pairs in the right order, ties half", () => {
  fc.assert(
    fc.property(scores, scores, (positives, negatives) => {
      let right = 0;
      for (const p of positives) for (const n of negatives) right += p > n ? 1 : p === n ? 0.5 : 0;
      expect(auc(positives, negatives)).toBeCloseTo(right / (positives.length * negatives.length), 12);
      expect(auc(positives, negatives) + auc(negatives, positives)).toBeCloseTo(1, 12);
    }),
  );
});

test("knows perfect, chance and perfectly wrong", () => {
  expect(auc([2, 3], [0, 1])).toBe(1);
  expect(auc([1, 1, 1], [1, 1])).toBe(0.5);
  expect(auc([0], [1])).toBe(0);
});

test("needs a score on both sides, and no NaN", () => {
  expect(() => auc([], [1])).toThrow(RangeError);
  expect(() => auc([1], [])).toThrow(RangeError);
  expect(() => auc([1], [Number.NaN])).toThrow(RangeError);
});
