import { expect, test } from "vitest";
import { tailBound } from "./tail-bound.ts";
import { gaussian } from "./testing/support.ts";

test("an exponential tail is continued to its quantile", () => {
  // Quantiles of the exponential distribution: the value exceeded by a share s is −ln s.
  const values = Array.from({ length: 1000 }, (_, i) => -Math.log((i + 0.5) / 1000));
  expect(tailBound(values, 0.0002)).toBeCloseTo(-Math.log(0.0002), 0);
  expect(tailBound(values, 0.0002)).toBeGreaterThan(Math.max(...values));
});

test("further draws exceed the bound seldom, from samples much smaller than the share needs", () => {
  for (const [size, share] of [
    [30, 0.0025],
    [100, 0.0025],
    [400, 0.0025],
  ] as const) {
    let exceeded = 0;
    const rounds = 200;
    const draws = 200;
    for (let seed = 0; seed < rounds; seed++) {
      const next = gaussian(seed);
      const bound = tailBound(Array.from({ length: size }, next), share);
      for (let i = 0; i < draws; i++) if (next() > bound) exceeded++;
    }
    expect(exceeded / rounds / draws).toBeLessThan(share);
    expect(exceeded).toBeGreaterThan(0);
  }
});

test("values that are all the same have no tail", () => {
  expect(tailBound(new Array(20).fill(3), 0.01)).toBe(3);
});

test("what is no sample is refused", () => {
  expect(() => tailBound(new Array(15).fill(1), 0.01)).toThrow(RangeError);
  expect(() => tailBound(new Array(20).fill(Number.NaN), 0.01)).toThrow(RangeError);
  expect(() => tailBound(new Array(20).fill(1), 0.5)).toThrow(RangeError);
});
