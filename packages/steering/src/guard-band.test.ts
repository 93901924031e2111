import { describe, expect, test } from "vitest";
import { Guard } from "./guard.ts";
import { bandOf, entropyRatio, guardBand, measureWindows } from "./guard-band.ts";
import { DEFAULT_GUARD_POLICY } from "./guard-policy.ts";
import { naturalReplies, naturalReply } from "./testing/guard-replies.ts";
import { reasonOf } from "./testing/support.ts";

const POLICY = DEFAULT_GUARD_POLICY;

/** Every token equally certain, none of them again. */
const flat = (entropy: number, tokens = 40) => ({
  tokens: Array.from({ length: tokens }, (_, i) => i),
  entropies: new Array(tokens).fill(entropy),
});

describe("a band", () => {
  test("is the policy's share around the baseline where replies do not spread", () => {
    const band = guardBand(new Array(30).fill(flat(2)), POLICY);
    expect(band).toEqual({
      windowTokens: 32,
      meanEntropy: 2,
      low: expect.closeTo(1.7, 12),
      high: expect.closeTo(2.3, 12),
      repetition: 0.75,
      measuredTokens: 32,
      replies: 30,
    });
  });

  test("keeps an absolute width around an entropy near 0", () => {
    const band = guardBand(new Array(30).fill(flat(0.002)), POLICY);
    expect(band.low).toBeLessThan(0);
    expect(band.high).toBeCloseTo(0.052, 12);
    expect(guardBand(new Array(30).fill(flat(0)), POLICY).high).toBeCloseTo(0.05, 12);
  });

  test("widens to what unsteered windows do, not further than they give reason to", () => {
    const { low, high, meanEntropy } = guardBand(naturalReplies(400, 1), POLICY);
    expect(low / meanEntropy).toBeLessThan(0.6);
    expect(low / meanEntropy).toBeGreaterThan(0.2);
    expect(high / meanEntropy).toBeGreaterThan(1.4);
    expect(high / meanEntropy).toBeLessThan(3);
  });

  test("of a window longer than the replies is that of a shorter one, and says so", () => {
    const replies = naturalReplies(100, 2, { tokens: 40 });
    const band = guardBand(replies, { ...POLICY, windowTokens: 128 });
    expect(band).toEqual({ ...guardBand(replies, POLICY), windowTokens: 128 });
    expect(band.measuredTokens).toBe(32);
  });

  test("of a model that repeats itself leaves that be, and never a whole loop", () => {
    const chorus = Array.from({ length: 64 }, (_, i) => (i % 32 < 26 ? i % 13 : i));
    const replies = new Array(30).fill({ tokens: chorus, entropies: new Array(64).fill(1) });
    const { repetition } = guardBand(replies, { ...POLICY, repetitionHundredths: 30 });
    expect(repetition).toBeGreaterThan(0.6);
    const loop = { tokens: new Array(64).fill(1), entropies: new Array(64).fill(1) };
    expect(guardBand(new Array(30).fill(loop), POLICY).repetition).toBe(0.95);
  });

  test("follows from what was measured once, for every policy of the same window", () => {
    const replies = naturalReplies(60, 4);
    const measured = measureWindows(replies, 32);
    for (const policy of [POLICY, { ...POLICY, bandHundredths: 90, repetitionHundredths: 40 }]) {
      expect(bandOf(measured, policy)).toEqual(guardBand(replies, policy));
    }
    expect(() => bandOf(measured, { ...POLICY, windowTokens: 16 })).toThrow(RangeError);
  });

  test("needs replies as long as some window", () => {
    expect(reasonOf(() => guardBand(naturalReplies(29, 3), POLICY))).toBe("BASELINE_INVALID");
    expect(reasonOf(() => guardBand(naturalReplies(100, 3, { tokens: 7 }), POLICY))).toBe("BASELINE_INVALID");
    expect(reasonOf(() => guardBand([{ tokens: [1], entropies: [] }], POLICY))).toBe("SHAPE_MISMATCH");
  });
});

test.each([
  [40, 60],
  [150, 20],
  [600, 10],
])("of %d unsteered replies: at most 1 %% of further ones leave it", (count, rounds) => {
  let trips = 0;
  const heldOut = 100;
  for (let round = 0; round < rounds; round++) {
    const band = guardBand(naturalReplies(count, 10 + round), POLICY);
    for (let i = 0; i < heldOut; i++) {
      const { tokens, entropies } = naturalReply({ seed: 9e6 + 1000 * round + i });
      const guard = new Guard({ policy: POLICY, band, alphaHundredths: 40 });
      for (let at = 0; at < tokens.length; at++) {
        guard.take({ id: tokens[at] as number, entropy: entropies[at] as number });
      }
      if (guard.events.length > 0) trips++;
    }
  }
  expect(trips / rounds / heldOut).toBeLessThanOrEqual(0.01);
});

test("a ratio of entropies stays finite", () => {
  expect(entropyRatio(0, { meanEntropy: 0 })).toBe(1);
  expect(entropyRatio(0.99, { meanEntropy: 0.49 })).toBe(2);
});
