import { expect, test } from "vitest";
import { coherenceBaseline } from "./coherence-baseline.ts";
import type { Reply } from "./reply.ts";
import { reasonOf } from "./testing/support.ts";

/** Two tokens of this entropy and this surprisal. */
const reply = (entropy: number, surprisal: number): Reply => ({
  tokenIds: [1, 2],
  entropies: [entropy, entropy],
  logProbs: [-surprisal, -surprisal],
});

test("a baseline holds means over replies and the spread between them", () => {
  const replies = [1, 2, 3, 4, 5, 6, 7, 8].map((x) => reply(x, x + (x % 2)));
  // Of 1 to 8: mean 4.5, sample variance 6.
  expect(coherenceBaseline(replies)).toEqual({
    meanTokens: 2,
    meanEntropy: 4.5,
    entropyStd: expect.closeTo(Math.sqrt(6), 12),
    meanSurprisal: 5,
    surprisalStd: expect.closeTo(Math.sqrt(40 / 7), 12),
    meanGap: 0.5,
    gapStd: expect.closeTo(Math.sqrt(2 / 7), 12),
    meanRepetition: 0,
    repetitionStd: 0,
  });
});

test("a baseline needs enough replies, and entropy", () => {
  expect(reasonOf(() => coherenceBaseline(new Array(7).fill(reply(1, 1))))).toBe("BASELINE_INVALID");
  expect(reasonOf(() => coherenceBaseline(new Array(8).fill(reply(0, 0))))).toBe("BASELINE_INVALID");
  expect(reasonOf(() => coherenceBaseline(new Array(8).fill(reply(1, Number.POSITIVE_INFINITY))))).toBe(
    "BASELINE_INVALID",
  );
});
