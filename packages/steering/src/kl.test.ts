import fc from "fast-check";
import { expect, test } from "vitest";
import reference from "./fixtures/logits.json" with { type: "json" };
import { klDivergence } from "./kl.ts";
import { reasonOf, rowsOf } from "./testing/support.ts";

const logits = fc.float32Array({ min: -50, max: 50, noNaN: true, minLength: 16, maxLength: 16 });

test.each(reference)("agrees with SciPy: $name", ({ p, q, width, kl, klByProbabilities }) => {
  const [rowP, rowQ] = [rowsOf(p, width), rowsOf(q, width)] as [[Float32Array], [Float32Array]];
  expect(klDivergence(rowP[0], rowQ[0])).toBeCloseTo(kl, 8);
  // The textbook formula agrees wherever Q's probabilities do not underflow.
  if (klByProbabilities !== null) expect(klDivergence(rowP[0], rowQ[0])).toBeCloseTo(klByProbabilities, 6);
});

test("is 0 for equal rows and for shifted ones, and never negative", () => {
  fc.assert(
    fc.property(logits, logits, (p, q) => {
      expect(klDivergence(p, p)).toBe(0);
      expect(
        klDivergence(
          p,
          Float64Array.from(p, (x) => x + 100),
        ),
      ).toBeLessThan(1e-9);
      expect(klDivergence(p, q)).toBeGreaterThanOrEqual(0);
    }),
  );
});

test("is not symmetric: P is what was spoken", () => {
  const certain = Float32Array.of(10, 0, 0);
  const even = new Float32Array(3);
  expect(klDivergence(certain, even)).toBeCloseTo(Math.log(3), 2);
  expect(klDivergence(even, certain)).toBeGreaterThan(5);
});

test("tokens that are ruled out count only where P speaks them", () => {
  const p = Float32Array.of(1, Number.NEGATIVE_INFINITY);
  expect(klDivergence(p, Float32Array.of(1, 1))).toBeCloseTo(Math.LN2, 12);
  expect(klDivergence(Float32Array.of(1, 1), p)).toBe(Number.POSITIVE_INFINITY);
});

test("refuses rows that do not compare", () => {
  expect(reasonOf(() => klDivergence(new Float32Array(2), new Float32Array(3)))).toBe("SHAPE_MISMATCH");
  expect(reasonOf(() => klDivergence(Float32Array.of(1, Number.NaN), new Float32Array(2)))).toBe("LOGITS_INVALID");
  expect(reasonOf(() => klDivergence(new Float32Array(2), Float32Array.of(1, Number.NaN)))).toBe("LOGITS_INVALID");
});
