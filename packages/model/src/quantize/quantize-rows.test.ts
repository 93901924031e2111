import { describe, expect, it } from "vitest";
import { dequantizeRows, type QuantizedShape, quantizeRows } from "./quantize-rows.ts";

/** Normal values, deterministic (Box–Muller over a linear congruence). */
function normal(count: number, seed = 1): Float32Array {
  let state = seed;
  const uniform = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return (state + 0.5) / 2 ** 32;
  };
  return Float32Array.from(
    { length: count },
    () => Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform()),
  );
}

/** Root of the mean squared error over that of the values. */
function relativeError(values: Float32Array, shape: QuantizedShape): number {
  const back = dequantizeRows(quantizeRows(values, shape), shape);
  const squares = (from: (i: number) => number) => values.reduce((sum, _, i) => sum + from(i) ** 2, 0);
  const at = (array: Float32Array, i: number) => array[i] as number;
  return Math.sqrt(squares((i) => at(values, i) - at(back, i)) / squares((i) => at(values, i)));
}

describe("rows of 8 bits", () => {
  it("hold q − 128 times the block's scale, the largest magnitude at ±127, the rest of the last block 128", () => {
    const values = Float32Array.of(0.5, -1.27, 0.01, 2.54, 0, -0.02);
    const { data, scales } = quantizeRows(values, { rows: 2, in: 3, bits: 8, block: 4 });
    expect([...scales]).toEqual([Math.fround(0.01), Math.fround(0.02)].map((x) => expect.closeTo(x, 8)));
    expect([...data]).toEqual([128 + 50, 128 - 127, 129, 128, 128 + 127, 128, 127, 128]);
  });

  it("keep normal values within 0.6 %", () => {
    expect(relativeError(normal(32768), { rows: 16, in: 2048, bits: 8, block: 32 })).toBeLessThan(0.006);
    expect(relativeError(normal(32768), { rows: 16, in: 2048, bits: 8, block: 128 })).toBeLessThan(0.007);
  });
});

describe("rows of 4 bits", () => {
  it("pack the first of two values low, and fill the last block up with zero points", () => {
    // Whole numbers with −8 among them: the scale that fits is 1.
    const values = Float32Array.of(-8, 7, 1, -2, 3);
    const { data, scales } = quantizeRows(values, { rows: 1, in: 5, bits: 4, block: 8 });
    expect([...scales]).toEqual([1]);
    expect([...data]).toEqual([0 | (15 << 4), 9 | (6 << 4), 11 | (8 << 4), 0x88]);
  });

  it("mirror the range where the largest value is positive", () => {
    const values = Float32Array.of(8, -7, -1, 2);
    const { data, scales } = quantizeRows(values, { rows: 1, in: 4, bits: 4, block: 4 });
    expect([...scales]).toEqual([-1]);
    expect([...data]).toEqual([0 | (15 << 4), 9 | (6 << 4)]);
  });

  it("are closer than the largest value's own scale would bring them", () => {
    const values = normal(32768);
    const plain = (block: number) => {
      let [error, total] = [0, 0];
      for (let from = 0; from < values.length; from += block) {
        const part = values.subarray(from, from + block);
        const extreme = part.reduce((a, b) => (Math.abs(b) > Math.abs(a) ? b : a));
        for (const value of part) {
          const q = Math.max(-8, Math.min(7, Math.round((-8 * value) / extreme)));
          error += (value - (q * extreme) / -8) ** 2;
          total += value ** 2;
        }
      }
      return Math.sqrt(error / total);
    };
    for (const [block, atMost] of [
      [32, 0.082],
      [128, 0.099],
    ] as const) {
      const error = relativeError(values, { rows: 16, in: 2048, bits: 4, block });
      expect(error).toBeLessThan(atMost);
      expect(error).toBeLessThan(0.98 * plain(block));
    }
  });
});

describe.each([8, 4] as const)("%i bits", (bits) => {
  it("quantize a row alike alone, in a panel, and into arrays of the caller", () => {
    const shape = { rows: 5, in: 77, bits, block: 32 } as const;
    const values = normal(5 * 77);
    const whole = quantizeRows(values, shape);
    const bytes = whole.data.length / 5;
    for (let row = 0; row < 5; row++) {
      const into = { data: new Uint8Array(bytes).fill(0xff), scales: new Float32Array(3).fill(Number.NaN) };
      quantizeRows(values.subarray(row * 77, (row + 1) * 77), { ...shape, rows: 1 }, into);
      expect(into.data).toEqual(whole.data.subarray(row * bytes, (row + 1) * bytes));
      expect(into.scales).toEqual(whole.scales.subarray(row * 3, (row + 1) * 3));
    }
  });

  it("stay within half a step, but for what four bits clip", () => {
    const shape = { rows: 8, in: 100, bits, block: 32 } as const;
    const values = normal(800);
    const quantized = quantizeRows(values, shape);
    const back = dequantizeRows(quantized, shape);
    values.forEach((value, i) => {
      const scale = Math.abs(quantized.scales[Math.floor(i / 100) * 4 + Math.floor((i % 100) / 32)] as number);
      const clipped = bits === 4 && Math.abs(back[i] as number) >= 6.999 * scale;
      if (!clipped) expect(Math.abs(value - (back[i] as number))).toBeLessThanOrEqual(0.5001 * scale);
    });
  });

  it("are zeros for a block of zeros or of subnormal values, and finite at the ends of float32", () => {
    const shape = { rows: 1, in: 32, bits, block: 32 } as const;
    for (const value of [0, -0, 1e-45, 190e-45, -1e-40]) {
      const { data, scales } = quantizeRows(new Float32Array(32).fill(value), shape);
      expect([...scales]).toEqual([0]);
      expect(data.every((byte) => byte === (bits === 8 ? 128 : 0x88))).toBe(true);
    }
    const huge = new Float32Array(32).fill(3.4e38);
    huge[3] = -3.4e38;
    expect(relativeError(huge, shape)).toBeLessThan(0.1);
  });

  it("refuse arrays that do not have the size of the shape", () => {
    const shape = { rows: 2, in: 32, bits, block: 32 } as const;
    expect(() => quantizeRows(new Float32Array(63), shape)).toThrow("values has 63 elements, its shape needs 64");
    const into = { data: new Uint8Array(3), scales: new Float32Array(2) };
    expect(() => quantizeRows(new Float32Array(64), shape, into)).toThrow(RangeError);
  });
});
