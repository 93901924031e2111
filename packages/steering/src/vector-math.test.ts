import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { reasonOf } from "./testing/support.ts";
import {
  cosine,
  dot,
  gramMatrix,
  isFiniteVector,
  norm,
  normalize,
  removeComponent,
  subtractComponent,
} from "./vector-math.ts";

const element = fc.float({ min: -1000, max: 1000, noNaN: true });

/** Four vectors of one width. */
const vectors = fc.integer({ min: 1, max: 40 }).chain((width) => {
  const vector = fc
    .float32Array({ min: -1000, max: 1000, noNaN: true, minLength: width, maxLength: width })
    // Numbers near the end of float32's range have few digits left: no relative tolerance holds for them.
    .map((v) => v.map((x) => (Math.abs(x) < 1e-3 ? 0 : x)));
  return fc.tuple(vector, vector, vector, vector);
});

describe("dot", () => {
  test.each([0, 1, 2, 3, 4, 5, 7, 8, 9])("adds up all of %i elements", (length) => {
    const a = Float32Array.from({ length }, (_, i) => i + 1);
    const b = Float32Array.from({ length }, (_, i) => 2 * i - 3);
    expect(dot(a, b)).toBe(Array.from(a).reduce((sum, x, i) => sum + x * (b[i] as number), 0));
  });

  test("accumulates in float64: a large term does not swallow small ones", () => {
    const a = new Float32Array(1001).fill(1);
    a[0] = 2 ** 13;
    // 2^26 + 1000 has no room for the 1000 ones in float32.
    expect(dot(a, a)).toBe(2 ** 26 + 1000);
  });

  test("refuses vectors of different widths", () => {
    expect(reasonOf(() => dot(new Float32Array(3), new Float32Array(4)))).toBe("VECTOR_WIDTH_MISMATCH");
  });
});

test("a norm neither overflows nor underflows where float32 squares would", () => {
  expect(norm(Float32Array.of(3e30, 4e30))).toBeCloseTo(5e30, -24);
  expect(norm(Float32Array.of(3e-30, 4e-30)) / 5e-30).toBeCloseTo(1, 6);
});

describe("normalize", () => {
  test("gives unit length, and the same direction", () => {
    fc.assert(
      fc.property(vectors, ([v]) => {
        fc.pre(norm(v) > 1e-6);
        const unit = normalize(v);
        expect(norm(unit)).toBeCloseTo(1, 6);
        expect(cosine(unit, v)).toBeCloseTo(1, 6);
      }),
    );
  });

  test("refuses what has no direction", () => {
    for (const v of [new Float32Array(4), Float32Array.of(Number.NaN, 1), Float32Array.of(Number.POSITIVE_INFINITY)]) {
      expect(reasonOf(() => normalize(v))).toBe("DEGENERATE_AXIS");
    }
  });
});

describe("removeComponent", () => {
  /** Rounding of the float32 result, as a share of the lengths involved. */
  const tolerance = 1e-6;

  test("leaves nothing along the axis, whatever the axis' length", () => {
    fc.assert(
      fc.property(vectors, fc.double({ min: 1e-3, max: 1e3, noNaN: true }), ([v, u], scale) => {
        fc.pre(norm(u) > 1e-3);
        const axis = u.map((x) => x * scale);
        const rest = removeComponent(v, axis);
        expect(Math.abs(dot(rest, u))).toBeLessThanOrEqual(tolerance * norm(v) * norm(u));
      }),
    );
  });

  test("is idempotent", () => {
    fc.assert(
      fc.property(vectors, ([v, u]) => {
        fc.pre(norm(u) > 1e-3);
        const once = removeComponent(v, u);
        const twice = removeComponent(once, u);
        for (const [i, x] of twice.entries()) {
          expect(Math.abs(x - (once[i] as number))).toBeLessThanOrEqual(tolerance * norm(v));
        }
      }),
    );
  });

  test("what was removed lies along the axis, and the parts add up by Pythagoras", () => {
    fc.assert(
      fc.property(vectors, ([v, u]) => {
        fc.pre(norm(u) > 1e-3);
        const rest = removeComponent(v, u);
        const along = dot(v, u) / norm(u);
        expect(Math.abs(norm(rest) ** 2 + along ** 2 - norm(v) ** 2)).toBeLessThanOrEqual(tolerance * norm(v) ** 2);
      }),
    );
  });

  test("an almost parallel vector keeps its remainder: one subtraction alone would leave rounding errors", () => {
    const u = Float64Array.from({ length: 64 }, (_, i) => Math.sin(i + 1) * 1e8);
    const v = u.map((x, i) => x + (i === 5 ? 1e-3 : 0));
    subtractComponent(v, u);
    expect(Math.abs(dot(v, u)) / (norm(v) * norm(u))).toBeLessThan(1e-12);
  });

  test("leaves its arguments alone", () => {
    const v = Float32Array.of(1, 2);
    const u = Float32Array.of(1, 1);
    expect([...removeComponent(v, u)]).toEqual([-0.5, 0.5]);
    expect([...v, ...u]).toEqual([1, 2, 1, 1]);
  });

  test("refuses an axis without direction", () => {
    expect(reasonOf(() => removeComponent(Float32Array.of(1, 2), new Float32Array(2)))).toBe("DEGENERATE_AXIS");
    expect(reasonOf(() => removeComponent(Float32Array.of(1), Float32Array.of(1e-20)))).toBe("DEGENERATE_AXIS");
  });
});

test("a Gram matrix is symmetric to the bit, with squared lengths on its diagonal", () => {
  fc.assert(
    fc.property(vectors, (set) => {
      const gram = gramMatrix(set);
      for (let i = 0; i < 4; i++) {
        expect(gram[i * 4 + i]).toBe(dot(set[i] as Float32Array, set[i] as Float32Array));
        for (let j = 0; j < 4; j++) expect(gram[i * 4 + j]).toBe(gram[j * 4 + i]);
      }
    }),
  );
});

test("a cosine is within ±1, and 0 without a direction", () => {
  fc.assert(
    fc.property(vectors, ([a, b]) => {
      const value = cosine(a, b);
      expect(Math.abs(value)).toBeLessThanOrEqual(1);
      if (norm(a) > 1e-3) expect(cosine(a, a)).toBeCloseTo(1, 12);
    }),
  );
  expect(cosine(new Float32Array(3), Float32Array.of(1, 0, 0))).toBe(0);
});

test("finiteness sees a NaN or an infinity at any place", () => {
  fc.assert(
    fc.property(
      fc.array(element, { minLength: 1, maxLength: 9 }),
      fc.nat(),
      fc.constantFrom(Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY),
      (values, at, bad) => {
        const v = Float32Array.from(values);
        expect(isFiniteVector(v)).toBe(true);
        v[at % v.length] = bad;
        expect(isFiniteVector(v)).toBe(false);
      },
    ),
  );
});
