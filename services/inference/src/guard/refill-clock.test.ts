import { expect, test } from "vitest";
import { RefillClock } from "./refill-clock.ts";

const ALL = { from: 1, to: Number.POSITIVE_INFINITY };

interface Reply {
  readonly cache?: "KEEP" | "REPREFILL";
  readonly refillTokens?: number;
  readonly tokens?: number;
  /** The tokens that something acts on. */
  readonly steered?: { readonly from: number; readonly to: number };
  /** Alpha is lower after these. */
  readonly lowered?: readonly number[];
}

/** After which tokens of a reply it is computed anew. */
function refills({ cache = "KEEP", refillTokens = 0, tokens = 100, steered = ALL, lowered = [] }: Reply): number[] {
  const clock = new RefillClock({ cache, refillTokens });
  const due: number[] = [];
  for (let token = 1; token <= tokens; token++) {
    const isActing = token >= steered.from && token <= steered.to;
    clock.take(isActing);
    if (lowered.includes(token)) clock.lowered();
    if (clock.takeDue(isActing)) due.push(token);
    expect(clock.takeDue(isActing)).toBe(false);
  }
  return due;
}

test("every so many tokens from the start of the reply, and by default never", () => {
  expect(refills({})).toEqual([]);
  expect(refills({ refillTokens: 32 })).toEqual([32, 64, 96]);
  expect(refills({ refillTokens: 16, tokens: 31 })).toEqual([16]);
  expect(refills({ refillTokens: 101 })).toEqual([]);
});

test("after alpha was lowered, where that is the policy, and counted from there", () => {
  expect(refills({ cache: "REPREFILL", lowered: [10, 50] })).toEqual([10, 50]);
  expect(refills({ cache: "REPREFILL", refillTokens: 32, lowered: [10, 42, 60] })).toEqual([10, 42, 60, 92]);
  // Once for both.
  expect(refills({ cache: "REPREFILL", refillTokens: 32, lowered: [32], tokens: 50 })).toEqual([32]);
});

test("at its own time where alpha was lowered and keys and values are kept", () => {
  expect(refills({ lowered: [10, 50] })).toEqual([]);
  expect(refills({ refillTokens: 32, lowered: [10, 50] })).toEqual([32, 64, 96]);
});

test("never of a reply that nothing acts on", () => {
  expect(refills({ refillTokens: 16, steered: { from: 101, to: 101 } })).toEqual([]);
});

test("once more, and then no more, of a reply that nothing acts on any longer", () => {
  expect(refills({ refillTokens: 16, steered: { from: 1, to: 20 } })).toEqual([16, 32]);
  // It was taken off as the first refill began, and acted on a part of it.
  expect(refills({ refillTokens: 16, steered: { from: 1, to: 16 } })).toEqual([16, 32]);
  expect(refills({ refillTokens: 16, steered: { from: 1, to: 15 } })).toEqual([16]);
});

test("at the same tokens, however late something begins to act", () => {
  expect(refills({ refillTokens: 32, steered: { from: 40, to: 100 } })).toEqual([64, 96]);
});
