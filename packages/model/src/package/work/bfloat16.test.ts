import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { roundToBfloat16 } from "./bfloat16.ts";

function rounded(value: number): number {
  const bits = new Uint16Array(1);
  roundToBfloat16(Float32Array.of(value), bits);
  return meaningOf(bits[0] as number);
}

/** The value of a bfloat16, from its bits. */
function meaningOf(bits: number): number {
  const view = new DataView(new ArrayBuffer(4));
  view.setUint16(0, bits);
  return view.getFloat32(0);
}

const LARGEST = meaningOf(0x7f7f);
const SMALLEST = meaningOf(1);

describe("roundToBfloat16", () => {
  it("takes the nearest, and of two as near the even one", () => {
    const step = 2 ** -7;
    expect(rounded(1 + step)).toBe(1 + step);
    expect(rounded(1 + 0.49 * step)).toBe(1);
    expect(rounded(1 + 0.51 * step)).toBe(1 + step);
    expect(rounded(1 + 0.5 * step)).toBe(1);
    expect(rounded(1 + 1.5 * step)).toBe(1 + 2 * step);
    expect(rounded(-(1 + 0.51 * step))).toBe(-(1 + step));
    expect(rounded(2 - 0.25 * step)).toBe(2);
  });

  it("keeps the sign of zero, and subnormal numbers", () => {
    expect([rounded(0), rounded(-0)]).toEqual([0, -0]);
    expect(rounded(SMALLEST)).toBe(SMALLEST);
    expect(rounded(-0.75 * SMALLEST)).toBe(-SMALLEST);
    expect(rounded(0.25 * SMALLEST)).toBe(0);
  });

  it("never makes an infinity of a finite number", () => {
    const largest = (2 - 2 ** -23) * 2 ** 127;
    expect([rounded(largest), rounded(-largest)]).toEqual([LARGEST, -LARGEST]);
    expect(rounded(LARGEST)).toBe(LARGEST);
  });

  it("is nowhere further off than half a step", () => {
    fc.assert(
      fc.property(fc.float({ noNaN: true, noDefaultInfinity: true, min: -LARGEST, max: LARGEST }), (value) => {
        const step = Math.max(2 ** (Math.floor(Math.log2(Math.abs(value))) - 7), SMALLEST);
        expect(Math.abs(rounded(value) - value)).toBeLessThanOrEqual(step / 2);
      }),
      { numRuns: 2000 },
    );
  });
});
