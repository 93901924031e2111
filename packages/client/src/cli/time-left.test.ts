import { describe, expect, it } from "vitest";
import { formatTimeLeft, TimeLeft } from "./time-left.ts";

/** Feeds an estimate from a clock of its own. */
function clock() {
  let now = 5_000;
  const left = new TimeLeft(() => now);
  let done = 0;
  return {
    /** Work of `perSecond` for so long, in steps of 50 ms. @returns the estimates on the way */
    work(perSecond: number, millis: number, total: number): (number | undefined)[] {
      const estimates: (number | undefined)[] = [];
      for (let at = 0; at < millis; at += 50) {
        now += 50;
        done += perSecond / 20;
        estimates.push(left.update(done, total));
      }
      return estimates;
    },
    left: (total: number) => left.update(done, total),
    done: () => done,
  };
}

describe("TimeLeft", () => {
  it("says nothing in the first second, then what is left at this speed", () => {
    const { work } = clock();
    expect(new Set(work(100, 950, 6_000))).toEqual(new Set([undefined]));
    const later = work(100, 9_050, 6_000);
    expect(later.at(-1)).toBeCloseTo(50_000, -3);
  });

  it("counts down steadily at an even speed", () => {
    const { work } = clock();
    const estimates = work(100, 20_000, 6_000).slice(20) as number[];
    for (const [i, estimate] of estimates.entries()) {
      if (i > 0) expect(Math.abs(estimate - (estimates[i - 1] as number) + 50)).toBeLessThan(1);
    }
  });

  it("hardly moves with one burst, and follows a lasting change", () => {
    const { work } = clock();
    const before = work(100, 10_000, 100_000).at(-1) as number;
    const burst = work(1_000, 250, 100_000).at(-1) as number;
    expect(burst).toBeGreaterThan(0.75 * before);
    const slow = work(50, 60_000, 100_000).at(-1) as number;
    expect(slow).toBeGreaterThan(1.9 * (before - 60_000));
  });

  it("says nothing of what stands still from the start, and is never negative", () => {
    const { work, left } = clock();
    expect(work(0, 5_000, 100).at(-1)).toBeUndefined();
    work(100, 2_000, 100);
    expect(left(100)).toBe(0);
  });
});

it("formats what is left the coarser the longer it is", () => {
  expect([0, 1_400, 12_600, 58_000, 84_000, 299_000, 700_000, 5 * 3_600_000].map(formatTimeLeft)).toEqual([
    "1 s left",
    "1 s left",
    "15 s left",
    "60 s left",
    "1 min 20 s left",
    "5 min 00 s left",
    "about 12 min left",
    "about 5 h left",
  ]);
});
