import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  ALPHA_STEP_HUNDREDTHS,
  CONTEXT_CAP_HUNDREDTHS,
  capOf,
  effectiveAlpha,
  formatAlpha,
  gainFor,
  HARD_CAP_HUNDREDTHS,
  requireAlphaWithin,
  stepDown,
  stepsToCap,
  toHundredths,
} from "./alpha.ts";
import { reasonOf } from "./testing/support.ts";

test("the caps are those of the policy", () => {
  expect(CONTEXT_CAP_HUNDREDTHS).toEqual({ CUSTOMER_FACING: 50, INTERNAL: 80 });
  expect(HARD_CAP_HUNDREDTHS).toBe(80);
});

describe("a tenant's cap", () => {
  test("can be lowered to any hundredth, and never raised", () => {
    expect(capOf("CUSTOMER_FACING")).toBe(50);
    expect(capOf("CUSTOMER_FACING", 50)).toBe(50);
    expect(capOf("CUSTOMER_FACING", 0)).toBe(0);
    expect(capOf("INTERNAL", 37)).toBe(37);
    expect(reasonOf(() => capOf("CUSTOMER_FACING", 51))).toBe("CAP_RAISED");
    expect(reasonOf(() => capOf("INTERNAL", 81))).toBe("CAP_RAISED");
  });

  test.each([-1, 0.5, Number.NaN, Number.POSITIVE_INFINITY])("cannot be %d", (override) => {
    expect(reasonOf(() => capOf("INTERNAL", override))).toBe("CAP_OUT_OF_RANGE");
  });
});

describe("hundredths", () => {
  test("every decimal of two places comes out exact", () => {
    for (let hundredths = -120; hundredths <= 120; hundredths++) {
      expect(toHundredths(Number((hundredths / 100).toFixed(2)))).toBe(hundredths);
      expect(toHundredths(hundredths / 100)).toBe(hundredths);
    }
    expect(Object.is(toHundredths(-0), 0)).toBe(true);
  });

  test.each([0.355, 0.001, Number.NaN, Number.POSITIVE_INFINITY, 1e300])("%d has none", (alpha) => {
    expect(reasonOf(() => toHundredths(alpha))).toBe("ALPHA_NOT_HUNDREDTHS");
  });

  test("read as people write them", () => {
    expect([35, -7, 0, 120].map(formatAlpha)).toEqual(["0.35", "-0.07", "0.00", "1.20"]);
  });
});

test("an alpha over the cap is refused on either side, at the cap it is not", () => {
  expect(reasonOf(() => requireAlphaWithin(51, 50, "term 1"))).toBe("ALPHA_OVER_CAP");
  expect(reasonOf(() => requireAlphaWithin(-51, 50, "term 1"))).toBe("ALPHA_OVER_CAP");
  expect(reasonOf(() => requireAlphaWithin(0.5, 50, "term 1"))).toBe("ALPHA_NOT_HUNDREDTHS");
  expect(() => requireAlphaWithin(-50, 50, "term 1")).not.toThrow();
  expect(() => requireAlphaWithin(65, 50, 'persona "p" term 1')).toThrow(
    'persona "p" term 1: alpha 0.65 is over the cap 0.50',
  );
});

describe("effective alpha", () => {
  test("is the largest |alpha| times the gain", () => {
    expect(effectiveAlpha([20, -35, 10])).toBe(35);
    expect(effectiveAlpha([20, -35, 10], 0.5)).toBe(18);
    expect(effectiveAlpha([20], 0)).toBe(0);
    expect(effectiveAlpha([])).toBe(0);
    expect(reasonOf(() => effectiveAlpha([20], 1.01))).toBe("GAIN_OUT_OF_RANGE");
    expect(reasonOf(() => effectiveAlpha([20], Number.NaN))).toBe("GAIN_OUT_OF_RANGE");
  });

  test("comes back from its gain exactly, for every alpha and every target", () => {
    for (let largest = 1; largest <= 120; largest++) {
      for (let target = 0; target <= largest; target++) {
        expect(effectiveAlpha([largest], gainFor(target, largest))).toBe(target);
      }
    }
  });

  test("a persona of alpha 0 needs no gain", () => {
    expect(gainFor(0, 0)).toBe(1);
  });
});

describe("lowering", () => {
  test("goes by steps of 0.1 until it is within the cap, and not below 0", () => {
    expect(stepsToCap(75, 50)).toEqual([65, 55, 45]);
    expect(stepsToCap(50, 50)).toEqual([]);
    expect(stepsToCap(5, 0)).toEqual([0]);
    expect(stepDown(4)).toBe(0);
    expect(reasonOf(() => stepsToCap(5, -1))).toBe("CAP_OUT_OF_RANGE");
  });

  test("ends within the cap, and takes no step too many", () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 120 }), fc.integer({ min: 0, max: 120 }), (alpha, cap) => {
        const last = stepsToCap(alpha, cap).at(-1) ?? alpha;
        expect(last).toBeLessThanOrEqual(cap);
        if (last < alpha) expect(last + ALPHA_STEP_HUNDREDTHS).toBeGreaterThan(cap);
      }),
    );
  });
});
