import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type ComposeOptions, compose } from "./compose.ts";
import { type Composed, type Composition, requireComposed } from "./composition.ts";
import { MAX_OVERLAP, MIN_REMAINDER } from "./composition-findings.ts";
import reference from "./fixtures/compose.json" with { type: "json" };
import type { Term } from "./term.ts";
import { float64Of, gaussian, largestDifference, randomVector, reasonOf, rowsOf } from "./testing/support.ts";
import { dot, norm, normalize } from "./vector-math.ts";

const HIDDEN = 24;
const model = { hiddenSize: HIDDEN, layerCount: 8, capHundredths: 50 };

/** Unit vector along one of the axes, or between two. */
function axis(i: number, j = i): Float32Array {
  const v = new Float32Array(HIDDEN);
  v[i] = 1;
  v[j] = 1;
  return normalize(v);
}

function term(id: string, alphaHundredths: number, direction: Float32Array, layers = [3], referenceNorm = 10): Term {
  return { id, alphaHundredths, directions: new Map(layers.map((layer) => [layer, { direction, referenceNorm }])) };
}

function composed(options: ComposeOptions): Composed {
  const composition = compose(options);
  requireComposed(composition);
  return composition;
}

function rowAt(composition: Composed, layer: number): Float32Array {
  return composition.rows.get(layer) as Float32Array;
}

const reasons = (composition: Composition) => composition.findings.map((finding) => finding.reason);

describe("a row", () => {
  test("of one term is alpha times the reference norm times the direction", () => {
    const row = rowAt(composed({ ...model, terms: [term("warm", -25, axis(2), [3], 8)] }), 3);
    expect(row[2]).toBe(-2);
    expect(norm(row)).toBe(2);
  });

  test("of scale UNIT drops the reference norm, and its dose says so", () => {
    const result = composed({ ...model, scale: "UNIT", terms: [term("warm", 25, axis(2), [3], 8)] });
    expect(rowAt(result, 3)[2]).toBe(0.25);
    expect(result.layers[0]?.dose).toBeCloseTo(0.25 / 8, 9);
  });

  test("is there for every layer of every term and no other, ascending", () => {
    const terms = [term("a", 10, axis(0), [6, 2]), term("b", 10, axis(1), [4])];
    const result = composed({ ...model, terms });
    expect([...result.rows.keys()]).toEqual([2, 4, 6]);
    expect(result.layers.map(({ terms: members }) => members)).toEqual([[0], [1], [0]]);
  });

  test("is there only at the layers that a term asks for", () => {
    const result = composed({ ...model, terms: [{ ...term("a", 10, axis(0), [1, 2, 5]), layers: [5, 1] }] });
    expect([...result.rows.keys()]).toEqual([1, 5]);
  });

  test("of alpha 0 is all zeros, with dose 0", () => {
    const result = composed({ ...model, terms: [term("off", 0, axis(0))] });
    expect(norm(rowAt(result, 3))).toBe(0);
    expect(result.totalDose).toBe(0);
  });
});

describe.each(reference)("beside NumPy, $hidden wide, alphas $alphas", (expected) => {
  const directions = rowsOf(expected.directions, expected.hidden);
  const terms = directions.map((direction, i) =>
    term(`t${i}`, expected.alphas[i] as number, direction, [0], expected.referenceNorms[i] as number),
  );
  const options = { terms, hiddenSize: expected.hidden, layerCount: 1, capHundredths: 120 };
  // The rows are float32: half a unit in the last place of numbers below 4.
  const tolerance = 2.4e-7;

  test("the plain sum, the Gram matrix and the dose agree", () => {
    const result = composed({ ...options, policy: "ACCEPT" });
    expect(largestDifference(rowAt(result, 0), float64Of(expected.written64))).toBeLessThan(tolerance);
    expect(largestDifference(result.layers[0]?.gram as Float64Array, expected.gram)).toBeLessThan(1e-12);
    expect(result.layers[0]?.dose).toBeCloseTo(expected.writtenDose, 6);
  });

  test("Gram–Schmidt agrees with a QR decomposition", () => {
    const result = composed({ ...options, policy: "ORTHOGONALIZE" });
    expect(result.outcome).toBe("ORTHOGONALIZED");
    expect(largestDifference(rowAt(result, 0), float64Of(expected.orthogonal64))).toBeLessThan(tolerance);
    expect(result.layers[0]?.dose).toBeCloseTo(expected.orthogonalDose, 6);
    expect(result.layers[0]?.writtenDose).toBeCloseTo(expected.writtenDose, 6);
    expect(largestDifference(result.layers[0]?.remainders as number[], expected.remainders)).toBeLessThan(1e-6);
  });
});

describe("the budget", () => {
  const along = (alpha: number, layers: number[]) => term("a", alpha, axis(0), layers);

  test("lets a single term at the cap through, whatever its rounding", () => {
    const next = gaussian(1);
    for (let i = 0; i < 50; i++) {
      const terms = [term("a", 50, normalize(randomVector(next, HIDDEN)), [3], 1 + 20 * Math.abs(next()))];
      expect(compose({ ...model, terms }).outcome).toBe("ACCEPTED");
    }
  });

  test("bounds the dose at a layer: two terms within the cap can be over it together", () => {
    const terms = [term("a", 40, axis(0)), term("b", 40, axis(1))];
    const result = compose({ ...model, terms });
    expect(result.outcome).toBe("REJECTED");
    expect(reasons(result)).toEqual(["DOSE_OVER_BUDGET"]);
    expect(result.findings[0]).toMatchObject({ layer: 3, details: { limit: 0.5 } });
    expect(result.layers[0]?.dose).toBeCloseTo(0.4 * Math.SQRT2, 6);
    expect("rows" in result).toBe(false);
  });

  test("bounds the sum over layers by twice the cap", () => {
    expect(compose({ ...model, terms: [along(25, [0, 1, 2, 3])] }).outcome).toBe("ACCEPTED");
    const result = compose({ ...model, terms: [along(26, [0, 1, 2, 3])] });
    expect(result.outcome).toBe("REJECTED");
    expect(result.findings).toMatchObject([{ reason: "DOSE_OVER_BUDGET", details: { limit: 1 } }]);
    expect(result.totalDose).toBeCloseTo(1.04, 6);
  });

  test("holds under ACCEPT too: it is not the author's to waive", () => {
    const terms = [term("a", 40, axis(0)), term("b", 40, axis(0, 1))];
    expect(compose({ ...model, policy: "ACCEPT", terms }).outcome).toBe("REJECTED");
  });

  test("takes the smallest reference norm where terms differ, so that no dose is understated", () => {
    const terms = [term("a", 30, axis(0), [3], 20), term("b", 1, axis(1), [3], 5)];
    const result = compose({ ...model, terms });
    expect(result.layers[0]).toMatchObject({ referenceNorm: 5 });
    expect(result.layers[0]?.dose).toBeGreaterThan(1.19);
    expect(result.outcome).toBe("REJECTED");
  });
});

describe("SCALE", () => {
  test("leaves what is within the budget as it is, to the bit", () => {
    const terms = [term("a", 20, axis(0)), term("b", -15, axis(0, 1))];
    const result = composed({ ...model, policy: "SCALE", terms });
    expect(result).toMatchObject({ outcome: "ACCEPTED", factor: 1, findings: [] });
    expect(result.rows).toEqual(composed({ ...model, policy: "ACCEPT", terms }).rows);
  });

  test("brings the largest dose to the cap, and says from where", () => {
    const terms = [term("a", 40, axis(0)), term("b", 40, axis(0, 1))];
    const result = composed({ ...model, policy: "SCALE", terms });
    expect(result.outcome).toBe("SCALED");
    expect(result.layers[0]?.dose).toBeCloseTo(0.5, 6);
    expect(result.factor).toBeCloseTo(0.5 / (result.layers[0]?.writtenDose as number), 9);
    expect(reasons(result)).toEqual(["DOSE_OVER_BUDGET"]);
    expect(result.findings[0]?.details).toMatchObject({ factor: result.factor });
  });

  test("scales every layer by one factor: the shape over layers stays", () => {
    const terms = [term("a", 50, axis(0), [1]), term("b", 50, axis(1), [1, 2, 3])];
    const accepted = compose({ ...model, policy: "ACCEPT", terms }).layers.map(({ dose }) => dose);
    const result = composed({ ...model, policy: "SCALE", terms });
    for (const [i, { dose }] of result.layers.entries()) {
      expect(dose / (accepted[i] as number)).toBeCloseTo(result.factor, 6);
    }
    expect(result.totalDose).toBeCloseTo(1, 6);
  });

  test("gives a composition that is within the budget whatever the terms, along the plain sum", () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: -50, max: 50 }), { minLength: 1, maxLength: 6 }),
        fc.nat(),
        (alphas, seed) => {
          const next = gaussian(seed);
          const terms = alphas.map((alpha, i) =>
            term(
              `t${i}`,
              alpha,
              normalize(randomVector(next, HIDDEN)),
              [0, 1, 2, 3].slice(0, 1 + (i % 4)),
              1 + (seed % 7),
            ),
          );
          const result = composed({ ...model, policy: "SCALE", terms });
          for (const { dose } of result.layers) expect(dose).toBeLessThanOrEqual(0.5 * (1 + 1e-3));
          expect(result.totalDose).toBeLessThanOrEqual(1 + 1e-3);
          expect(result.factor).toBeLessThanOrEqual(1);
          // Half the alphas over half the cap is the same persona at half the size.
          const plain = composed({ ...model, capHundredths: 1_000_000, policy: "ACCEPT", terms });
          for (const [layer, row] of result.rows) {
            const scaled = rowAt(plain, layer).map((x) => x * result.factor);
            expect(largestDifference(row, scaled)).toBeLessThan(1e-5);
          }
        },
      ),
    );
  });
});

describe("ORTHOGONALIZE", () => {
  test("leaves terms that are orthogonal already, and calls them accepted", () => {
    const terms = [term("a", 20, axis(0)), term("b", 20, axis(1))];
    const result = composed({ ...model, policy: "ORTHOGONALIZE", terms });
    expect(result).toMatchObject({ outcome: "ACCEPTED", findings: [] });
    expect(result.rows).toEqual(composed({ ...model, policy: "ACCEPT", terms }).rows);
  });

  test("keeps the first term whole; the later one loses what it shares, and grows no longer", () => {
    const terms = [term("a", 20, axis(0)), term("b", 20, axis(0, 1))];
    const result = composed({ ...model, policy: "ORTHOGONALIZE", terms });
    const row = rowAt(result, 3);
    expect(result.outcome).toBe("ORTHOGONALIZED");
    expect(row[0]).toBeCloseTo(2, 6);
    expect(row[1]).toBeCloseTo(2 * Math.SQRT1_2, 6);
    expect(result.layers[0]?.remainders[1]).toBeCloseTo(Math.SQRT1_2, 6);
    expect(result.findings).toMatchObject([{ reason: "TERMS_OVERLAP", term: 1, layer: 3 }]);
  });

  test("depends on the order written", () => {
    const [a, b] = [term("a", 20, axis(0)), term("b", 20, axis(0, 1))];
    const forwards = composed({ ...model, policy: "ORTHOGONALIZE", terms: [a, b] });
    const backwards = composed({ ...model, policy: "ORTHOGONALIZE", terms: [b, a] });
    expect(largestDifference(rowAt(forwards, 3), rowAt(backwards, 3))).toBeGreaterThan(0.1);
  });

  test("a later term adds nothing along an earlier one", () => {
    fc.assert(
      fc.property(fc.nat(), fc.integer({ min: -20, max: 20 }), (seed, alpha) => {
        const next = gaussian(seed);
        const first = normalize(randomVector(next, HIDDEN));
        const terms = [term("a", 12, first), term("b", alpha, normalize(randomVector(next, HIDDEN)))];
        const row = rowAt(composed({ ...model, policy: "ORTHOGONALIZE", terms }), 3);
        expect(dot(row, first)).toBeCloseTo(1.2, 5);
      }),
    );
  });

  test("refuses a term that lies in the span of those before it", () => {
    const terms = [term("a", 10, axis(0)), term("b", 10, axis(1)), term("c", 10, axis(0, 1))];
    const result = compose({ ...model, policy: "ORTHOGONALIZE", terms });
    expect(result.outcome).toBe("REJECTED");
    expect(result.findings).toMatchObject([{ reason: "DEGENERATE_AXIS", term: 2, details: { limit: MIN_REMAINDER } }]);
  });
});

describe("overlap", () => {
  const near = (cosine: number) => {
    const v = new Float32Array(HIDDEN);
    v[0] = cosine;
    v[1] = Math.sqrt(1 - cosine * cosine);
    return v;
  };
  const pair = (cosine: number) => [term("a", 10, axis(0)), term("b", 10, near(cosine))];

  test.each([MAX_OVERLAP + 0.01, -MAX_OVERLAP - 0.01])(
    "of %d is refused by REJECT, the default, and only by it",
    (cosine) => {
      const result = compose({ ...model, terms: pair(cosine) });
      expect(reasons(result)).toEqual(["TERMS_OVERLAP"]);
      expect(result.findings[0]?.message).toContain('term 1 "a" and term 2 "b"');
      expect(result.outcome).toBe("REJECTED");
      for (const policy of ["ACCEPT", "SCALE", "ORTHOGONALIZE"] as const) {
        expect(compose({ ...model, policy, terms: pair(cosine) }).outcome).not.toBe("REJECTED");
      }
    },
  );

  test("below the limit passes", () => {
    expect(compose({ ...model, terms: pair(MAX_OVERLAP - 0.01) }).outcome).toBe("ACCEPTED");
  });
});

describe("unfit terms are refused with a stable reason", () => {
  const good = () => term("a", 10, axis(0));
  const at = (direction: Float32Array, referenceNorm = 10) => [term("a", 10, direction, [3], referenceNorm)];
  const withNaN = axis(0).map((x, i) => (i === 4 ? Number.NaN : x));
  const withInf = axis(0).map((x, i) => (i === 4 ? Number.NEGATIVE_INFINITY : x));

  test.each<[string, Term[], string]>([
    ["no terms", [], "TERM_COUNT"],
    ["too many terms", Array.from({ length: 17 }, (_, i) => term(`t${i}`, 1, axis(i))), "TERM_COUNT"],
    ["a term at no layer", [{ ...good(), layers: [] }], "TERM_COUNT"],
    ["two terms of one id", [good(), term("a", 5, axis(1))], "DUPLICATE_TERM"],
    ["a layer named twice", [{ ...good(), layers: [3, 3] }], "DUPLICATE_LAYER"],
    ["a layer below the model", [term("a", 10, axis(0), [-1])], "LAYER_OUT_OF_RANGE"],
    ["a layer beyond the model", [term("a", 10, axis(0), [8])], "LAYER_OUT_OF_RANGE"],
    ["half a layer", [term("a", 10, axis(0), [1.5])], "LAYER_OUT_OF_RANGE"],
    ["more layers than there are", [{ ...good(), layers: new Array(9).fill(3) }], "LAYER_OUT_OF_RANGE"],
    ["a layer that the vector has not", [{ ...good(), layers: [2] }], "LAYER_NOT_IN_VECTOR"],
    ["a fraction of a hundredth", [term("a", 10.5, axis(0))], "ALPHA_NOT_HUNDREDTHS"],
    ["alpha NaN", [term("a", Number.NaN, axis(0))], "ALPHA_NOT_HUNDREDTHS"],
    ["alpha over the cap", [term("a", 51, axis(0))], "ALPHA_OVER_CAP"],
    ["alpha under minus the cap", [term("a", -51, axis(0))], "ALPHA_OVER_CAP"],
    ["NaN in a direction", at(withNaN), "VECTOR_NOT_FINITE"],
    ["Inf in a direction", at(withInf), "VECTOR_NOT_FINITE"],
    ["a narrow direction", at(new Float32Array(HIDDEN - 1).fill(0.2)), "VECTOR_WIDTH_MISMATCH"],
    ["an empty direction", at(new Float32Array(0)), "VECTOR_WIDTH_MISMATCH"],
    ["an all-zero direction", at(new Float32Array(HIDDEN)), "VECTOR_NOT_UNIT"],
    ["a direction that is too long", at(axis(0).map((x) => x * 1.001)), "VECTOR_NOT_UNIT"],
    ["reference norm 0", at(axis(0), 0), "REFERENCE_NORM_INVALID"],
    ["a negative reference norm", at(axis(0), -3), "REFERENCE_NORM_INVALID"],
    ["reference norm NaN", at(axis(0), Number.NaN), "REFERENCE_NORM_INVALID"],
    ["a row that overflows float32", at(axis(0), 1e40), "VECTOR_NOT_FINITE"],
  ])("%s", (_, terms, reason) => {
    for (const policy of ["ACCEPT", "SCALE", "ORTHOGONALIZE", "REJECT"] as const) {
      const result = compose({ ...model, policy, terms });
      expect(result.outcome).toBe("REJECTED");
      expect(reasons(result)).toContain(reason);
    }
    expect(reasonOf(() => requireComposed(compose({ ...model, terms })))).toBe(reason);
  });

  test("every unfit term is named, counted from 1", () => {
    const terms = [term("warm", 90, axis(0)), good(), term("cold", 10, withNaN)];
    const result = compose({ ...model, terms });
    expect(result.findings.map(({ message }) => message)).toEqual([
      'term 1 "warm": alpha 0.90 is over the cap 0.50',
      'term 3 "cold": layer 3: NaN or Inf in the direction',
    ]);
    expect(() => requireComposed(result)).toThrow("(and 1 more)");
  });

  test("what is no model is a fault of the program, not of the persona", () => {
    expect(() => compose({ ...model, terms: [good()], hiddenSize: 0 })).toThrow(RangeError);
    expect(() => compose({ ...model, terms: [good()], layerCount: 1.5 })).toThrow(RangeError);
    expect(() => compose({ ...model, terms: [good()], capHundredths: -1 })).toThrow(RangeError);
  });
});

describe("laws", () => {
  const drawn = fc.record({
    seed: fc.nat(),
    alphas: fc.array(fc.integer({ min: -30, max: 30 }), { minLength: 2, maxLength: 5 }),
    policy: fc.constantFrom("ACCEPT" as const, "SCALE" as const, "REJECT" as const, "ORTHOGONALIZE" as const),
  });
  const build = (seed: number, alphas: readonly number[]) => {
    const next = gaussian(seed);
    return alphas.map((alpha, i) => term(`t${i}`, alpha, normalize(randomVector(next, HIDDEN)), [1, 4]));
  };

  test("the same terms give the same bytes", () => {
    fc.assert(
      fc.property(drawn, ({ seed, alphas, policy }) => {
        const once = compose({ ...model, policy, terms: build(seed, alphas) });
        expect(compose({ ...model, policy, terms: build(seed, alphas) })).toEqual(once);
      }),
    );
  });

  test("minus every alpha gives minus every row", () => {
    fc.assert(
      fc.property(drawn, ({ seed, alphas, policy }) => {
        const plus = compose({ ...model, policy, terms: build(seed, alphas) });
        const negated = alphas.map((alpha) => (alpha === 0 ? 0 : -alpha));
        const minus = compose({ ...model, policy, terms: build(seed, negated) });
        expect(minus.outcome).toBe(plus.outcome);
        if (plus.outcome === "REJECTED" || minus.outcome === "REJECTED") return;
        for (const [layer, row] of plus.rows) {
          expect(
            largestDifference(
              row,
              rowAt(minus, layer).map((x) => -x),
            ),
          ).toBe(0);
        }
      }),
    );
  });

  test("without Gram–Schmidt the order of the terms does not matter, but for rounding", () => {
    fc.assert(
      fc.property(drawn, ({ seed, alphas }) => {
        const terms = build(seed, alphas);
        const forwards = composed({ ...model, policy: "SCALE", terms });
        const backwards = composed({ ...model, policy: "SCALE", terms: terms.toReversed() });
        for (const [layer, row] of forwards.rows) {
          expect(largestDifference(row, rowAt(backwards, layer))).toBeLessThan(1e-6);
        }
      }),
    );
  });

  test("the terms are only read", () => {
    const terms = build(5, [20, 20]);
    const before = structuredClone(terms);
    compose({ ...model, policy: "ORTHOGONALIZE", terms });
    expect(terms).toEqual(before);
  });
});
