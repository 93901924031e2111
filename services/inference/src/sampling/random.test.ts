import { describe, expect, it } from "vitest";
import { philox, uniform, type Words2, type Words4 } from "./random.ts";

describe("philox", () => {
  it.each<[string, Words4, Words2, Words4]>([
    ["zeros", [0, 0, 0, 0], [0, 0], [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]],
    [
      "ones",
      [0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff],
      [0xffffffff, 0xffffffff],
      [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd],
    ],
    [
      "digits of pi",
      [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344],
      [0xa4093822, 0x299f31d0],
      [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1],
    ],
  ])("gives the published known answer for %s", (_, counter, key, expected) => {
    expect(philox(counter, key)).toEqual(expected);
  });
});

describe("uniform", () => {
  it("is a function of seed, choice and position alone", () => {
    const first = uniform(7n, 0, 3);
    uniform(8n, 1, 4);
    expect(uniform(7n, 0, 3)).toBe(first);
  });

  it("takes its 53 bits from the first two words", () => {
    const [high, low] = philox([3, 2, 0, 0], [0x89abcdef, 0x01234567]);
    const bits = (BigInt(high >>> 5) << 26n) | BigInt(low >>> 6);
    expect(uniform(0x0123456789abcdefn, 2, 3)).toBe(Number(bits) / 2 ** 53);
  });

  it("differs in each argument, in every bit of the seed", () => {
    const values = [uniform(0n, 0, 0), uniform(0n, 1, 0), uniform(0n, 0, 1), uniform(0n, 2 ** 32 - 1, 0)];
    for (let bit = 0n; bit < 64n; bit++) values.push(uniform(1n << bit, 0, 0));
    expect(new Set(values).size).toBe(values.length);
  });

  it("fills [0, 1) evenly over positions, choices and seeds", () => {
    const draws = 20_000;
    const streams = [
      (i: number) => uniform(1n, 0, i),
      (i: number) => uniform(1n, i, 0),
      (i: number) => uniform(BigInt(i), 0, 0),
    ];
    for (const stream of streams) {
      const bins = new Array<number>(20).fill(0);
      for (let i = 0; i < draws; i++) {
        const u = stream(i);
        expect(u >= 0 && u < 1).toBe(true);
        const bin = Math.floor(u * bins.length);
        bins[bin] = (bins[bin] as number) + 1;
      }
      const expected = draws / bins.length;
      const statistic = bins.reduce((sum, count) => sum + (count - expected) ** 2 / expected, 0);
      // 0.999 quantile of χ² with 19 degrees of freedom.
      expect(statistic).toBeLessThan(43.8);
    }
  });

  it("refuses what is no uint64 or uint32", () => {
    expect(() => uniform(-1n, 0, 0)).toThrow(/seed -1/);
    expect(() => uniform(1n << 64n, 0, 0)).toThrow(/seed/);
    expect(() => uniform(0n, -1, 0)).toThrow(/choice -1/);
    expect(() => uniform(0n, 0, 2 ** 32)).toThrow(/position/);
    expect(() => uniform(0n, 0, 0.5)).toThrow(/position 0.5/);
  });
});
