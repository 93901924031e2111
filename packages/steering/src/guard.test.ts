import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { effectiveAlpha, gainFor } from "./alpha.ts";
import { Guard, type GuardEvent, type GuardOptions } from "./guard.ts";
import type { GuardBand } from "./guard-band.ts";
import { DEFAULT_GUARD_POLICY, type GuardPolicy } from "./guard-policy.ts";
import { reasonOf } from "./testing/support.ts";

const POLICY: GuardPolicy = { ...DEFAULT_GUARD_POLICY, windowTokens: 16 };

const BAND: GuardBand = {
  windowTokens: 16,
  meanEntropy: 0.99,
  low: 0.5,
  high: 1.5,
  repetition: 0.75,
  measuredTokens: 16,
  replies: 100,
};

const guardOf = (alphaHundredths: number, options: Partial<GuardOptions> = {}) =>
  new Guard({ policy: POLICY, band: BAND, alphaHundredths, ...options });

/** Tokens that do not repeat, each as certain. @returns what the guard did */
function write(guard: Guard, count: number, entropy: number, id: (i: number) => number = unrepeated): GuardEvent[] {
  return Array.from({ length: count }, (_, i) => guard.take({ id: id(i), entropy })).filter((e) => e !== undefined);
}

let fresh = 0;
const unrepeated = () => fresh++;

describe("out of bounds", () => {
  test("a window lowers alpha by a step, and then has one window of patience", () => {
    const guard = guardOf(35);
    expect(write(guard, 15, 2)).toEqual([]);
    expect(write(guard, 1, 2)).toEqual([
      {
        afterTokens: 16,
        cause: "ENTROPY_HIGH",
        entropyRatio: expect.closeTo(2.01, 12),
        repetition: 0,
        kl: undefined,
        alphaBeforeHundredths: 35,
        alphaAfterHundredths: 25,
      },
    ]);
    expect(guard.alphaHundredths).toBe(25);
    expect(write(guard, 15, 2)).toEqual([]);
    expect(write(guard, 1, 2)).toMatchObject([{ afterTokens: 32, alphaAfterHundredths: 15 }]);
    expect(guard.alphas).toEqual([
      { fromToken: 0, alphaHundredths: 35 },
      { fromToken: 16, alphaHundredths: 25 },
      { fromToken: 32, alphaHundredths: 15 },
    ]);
  });

  test("entropy counts to both sides, and at the edges is within", () => {
    expect(write(guardOf(50), 16, 0.4)).toMatchObject([{ cause: "ENTROPY_LOW" }]);
    expect(write(guardOf(50), 64, 0.5)).toEqual([]);
    expect(write(guardOf(50), 64, 1.5)).toEqual([]);
  });

  test("a loop is found whatever its entropy, and also without a baseline", () => {
    expect(write(guardOf(50), 16, 1, (i) => i % 5)).toMatchObject([{ cause: "REPETITION", repetition: 1 }]);
    const alone = guardOf(50, { band: undefined });
    expect(write(alone, 32, 100)).toEqual([]);
    expect(write(alone, 16, 0, (i) => i % 5)).toMatchObject([
      { cause: "REPETITION", entropyRatio: undefined, alphaAfterHundredths: 40 },
    ]);
  });

  test("a loop that starts late is found within about a window", () => {
    const guard = guardOf(50);
    write(guard, 100, 1);
    const [event] = write(guard, 64, 1, (i) => i % 3);
    expect(event?.cause).toBe("REPETITION");
    expect(event?.afterTokens).toBeLessThanOrEqual(116);
  });

  test("alpha ends at 0, which is said once", () => {
    const guard = guardOf(15);
    expect(write(guard, 160, 2).map((event) => event.alphaAfterHundredths)).toEqual([5, 0, 0]);
    // Back within bounds, and out again.
    write(guard, 16, 1);
    expect(write(guard, 64, 2)).toMatchObject([{ alphaBeforeHundredths: 0, alphaAfterHundredths: 0 }]);
    expect(guard.alphas.at(-1)).toEqual({ fromToken: 32, alphaHundredths: 0 });
  });

  test("an unsteered reply is watched, and nothing is lowered", () => {
    const guard = guardOf(0);
    expect(write(guard, 160, 2)).toMatchObject([{ alphaBeforeHundredths: 0, alphaAfterHundredths: 0 }]);
    expect(guard.alphas).toEqual([{ fromToken: 0, alphaHundredths: 0 }]);
  });
});

test("a guard that observes reports, and leaves alpha alone", () => {
  for (const guard of [guardOf(35, { observeOnly: true }), guardOf(35, { policy: { ...POLICY, observeOnly: true } })]) {
    expect(write(guard, 160, 2)).toMatchObject([{ alphaBeforeHundredths: 35, alphaAfterHundredths: 35 }]);
    expect(guard.alphas).toEqual([{ fromToken: 0, alphaHundredths: 35 }]);
  }
});

describe("divergence from a twin", () => {
  test("over a window lowers alpha, once the twin has read a window of what was written since", () => {
    const guard = guardOf(35, { divergenceActs: true });
    write(guard, 40, 1);
    const events = Array.from({ length: 40 }, () => guard.compare(3)).filter((event) => event !== undefined);
    // At the 16th token. The rest was written before the step.
    expect(events).toEqual([
      {
        afterTokens: 40,
        cause: "DIVERGENCE",
        entropyRatio: expect.closeTo(1.01, 12),
        repetition: 0,
        kl: 3,
        alphaBeforeHundredths: 35,
        alphaAfterHundredths: 25,
      },
    ]);
    write(guard, 16, 1);
    expect(Array.from({ length: 16 }, () => guard.compare(3)).filter(Boolean)).toHaveLength(1);
  });

  test("within the limit is left alone", () => {
    const guard = guardOf(35, { divergenceActs: true });
    write(guard, 40, 1);
    for (let i = 0; i < 40; i++) expect(guard.compare(1)).toBeUndefined();
  });

  test("may be infinite, and never NaN", () => {
    const guard = guardOf(35, { divergenceActs: true });
    write(guard, 16, 1);
    expect(reasonOf(() => guard.compare(Number.NaN))).toBe("SCORE_INPUT_INVALID");
    const last = Array.from({ length: 16 }, () => guard.compare(Number.POSITIVE_INFINITY)).at(-1);
    expect(last).toMatchObject({ cause: "DIVERGENCE", kl: Number.POSITIVE_INFINITY });
  });

  test("of a twin that observes is reported, and lowers nothing", () => {
    const guard = guardOf(35);
    write(guard, 15, 1);
    for (let i = 0; i < 16; i++) expect(guard.compare(3)).toBeUndefined();
    expect(write(guard, 16, 2)).toMatchObject([{ cause: "ENTROPY_HIGH", kl: 3 }]);
  });
});

test("another persona is watched anew, from its own alpha", () => {
  const guard = guardOf(35);
  write(guard, 15, 2);
  guard.wear(60);
  expect(write(guard, 15, 2)).toEqual([]);
  expect(write(guard, 1, 2)).toMatchObject([{ afterTokens: 31, alphaBeforeHundredths: 60, alphaAfterHundredths: 50 }]);
  expect(guard.alphas).toEqual([
    { fromToken: 0, alphaHundredths: 35 },
    { fromToken: 15, alphaHundredths: 60 },
    { fromToken: 31, alphaHundredths: 50 },
  ]);
});

test("what cannot be lowered is reported, until something else is worn", () => {
  const guard = guardOf(35);
  guard.wear(60, false);
  expect(write(guard, 64, 2)).toMatchObject([{ alphaBeforeHundredths: 60, alphaAfterHundredths: 60 }]);
  guard.wear(40);
  expect(write(guard, 16, 2)).toMatchObject([{ alphaBeforeHundredths: 40, alphaAfterHundredths: 30 }]);
});

test("a change before the first token leaves one span", () => {
  const guard = guardOf(35);
  guard.wear(20);
  expect(guard.alphas).toEqual([{ fromToken: 0, alphaHundredths: 20 }]);
});

test("personas of several terms and negative ones are lowered by their largest term, as a whole", () => {
  const terms = [-60, 25];
  const guard = guardOf(effectiveAlpha(terms));
  write(guard, 16, 2);
  const gain = gainFor(guard.alphaHundredths, effectiveAlpha(terms));
  expect(effectiveAlpha(terms, gain)).toBe(50);
  expect((terms[0] as number) * gain).toBeCloseTo(-50, 12);
});

test("what is no token, no alpha or no band of this window is refused", () => {
  const guard = guardOf(35);
  write(guard, 15, 1);
  expect(reasonOf(() => guard.take({ id: 1, entropy: Number.NaN }))).toBe("SCORE_INPUT_INVALID");
  expect(guard.events).toEqual([]);
  for (const alpha of [-1, 0.5, Number.NaN]) expect(() => guardOf(alpha)).toThrow(RangeError);
  expect(() => guardOf(35, { band: { ...BAND, windowTokens: 32 } })).toThrow(RangeError);
});

test("under any reply: alpha falls by steps and never below 0, events keep a window apart, spans tell the same story", () => {
  const action = fc.oneof(
    {
      weight: 8,
      arbitrary: fc.record({
        kind: fc.constant("tokens" as const),
        entropy: fc.double({ min: 0, max: 3, noNaN: true }),
        loop: fc.nat(3),
      }),
    },
    {
      weight: 2,
      arbitrary: fc.record({ kind: fc.constant("compare" as const), kl: fc.double({ min: 0, max: 4, noNaN: true }) }),
    },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant("wear" as const), alpha: fc.nat(120) }) },
  );
  const policy = fc.record({
    windowTokens: fc.integer({ min: 8, max: 40 }),
    stepHundredths: fc.integer({ min: 1, max: 80 }),
    observeOnly: fc.boolean(),
  });
  fc.assert(
    fc.property(policy, fc.nat(120), fc.array(action, { maxLength: 40 }), (chosen, start, actions) => {
      const { windowTokens, stepHundredths, observeOnly } = chosen;
      const own = { ...POLICY, ...chosen };
      const guard = new Guard({
        policy: own,
        band: { ...BAND, windowTokens },
        alphaHundredths: start,
        divergenceActs: true,
      });
      let [taken, compared, alpha, watchedFrom] = [0, 0, start, 0];
      const check = (event: GuardEvent | undefined) => {
        if (event === undefined) return;
        expect(event.afterTokens).toBe(taken);
        expect(event.alphaBeforeHundredths).toBe(alpha);
        expect(event.alphaAfterHundredths).toBe(observeOnly ? alpha : Math.max(0, alpha - stepHundredths));
        expect(taken - watchedFrom).toBeGreaterThanOrEqual(windowTokens);
        alpha = event.alphaAfterHundredths;
        watchedFrom = taken;
      };
      for (const each of actions) {
        if (each.kind === "wear") {
          guard.wear(each.alpha);
          alpha = each.alpha;
          watchedFrom = taken;
        } else if (each.kind === "compare") {
          for (; compared < taken; compared++) check(guard.compare(each.kl));
        } else {
          for (let i = 0; i < 10; i++) {
            taken++;
            check(guard.take({ id: each.loop === 0 ? i % 2 : 100 + taken, entropy: each.entropy }));
          }
        }
        expect(guard.alphaHundredths).toBe(alpha);
        expect(guard.alphas.at(-1)?.alphaHundredths).toBe(alpha);
      }
      const froms = guard.alphas.map(({ fromToken }) => fromToken);
      expect(froms).toEqual([...new Set(froms)].sort((a, b) => a - b));
    }),
    { numRuns: 200 },
  );
});
