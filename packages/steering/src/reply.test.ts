import { describe, expect, test } from "vitest";
import { MAX_SCORED_TOKENS, measureReply, type Reply } from "./reply.ts";
import { reasonOf } from "./testing/support.ts";

const good: Reply = { tokenIds: [5, 6, 7, 8], entropies: [1, 2, 3, 2], logProbs: [-1, -3, -2, -4] };

test("a reply is measured by means over its tokens, in nats", () => {
  expect(measureReply(good)).toEqual({ tokens: 4, entropy: 2, surprisal: 2.5, gap: 0.5, repetition: 0 });
  expect(measureReply({ ...good, kls: Float32Array.of(0, 1, 2, 3) }).kl).toBe(1.5);
});

test("typed arrays do as well as lists", () => {
  const typed = {
    tokenIds: Uint32Array.from(good.tokenIds),
    entropies: Float32Array.from(good.entropies),
    logProbs: Float32Array.from(good.logProbs),
  };
  expect(measureReply(typed)).toEqual(measureReply(good));
});

test("rounding below 0 counts as 0", () => {
  const rounded = { ...good, entropies: [-1e-6, 0, 0, 0], logProbs: [1e-6, 0, 0, 0] };
  expect(measureReply(rounded)).toMatchObject({ entropy: 0, surprisal: 0 });
});

describe("refused is a reply", () => {
  const at = (value: number) => [1, value, 1, 1];
  test.each<[string, Partial<Reply>, string]>([
    ["of no tokens", { tokenIds: [], entropies: [], logProbs: [] }, "REPLY_EMPTY"],
    ["with an entropy missing", { entropies: [1, 2, 3] }, "SHAPE_MISMATCH"],
    ["with a log-probability too many", { logProbs: [-1, -1, -1, -1, -1] }, "SHAPE_MISMATCH"],
    ["with a KL missing", { kls: [0] }, "SHAPE_MISMATCH"],
    ["with entropy NaN", { entropies: at(Number.NaN) }, "SCORE_INPUT_INVALID"],
    ["with infinite entropy", { entropies: at(Number.POSITIVE_INFINITY) }, "SCORE_INPUT_INVALID"],
    ["with negative entropy", { entropies: at(-0.1) }, "SCORE_INPUT_INVALID"],
    ["with log-probability NaN", { logProbs: [-1, Number.NaN, -1, -1] }, "SCORE_INPUT_INVALID"],
    ["with a positive log-probability", { logProbs: [-1, 0.1, -1, -1] }, "SCORE_INPUT_INVALID"],
    ["with a negative KL", { kls: at(-0.1) }, "SCORE_INPUT_INVALID"],
    ["that is too long", { tokenIds: new Uint32Array(MAX_SCORED_TOKENS + 1) }, "SCORE_INPUT_INVALID"],
  ])("%s", (_, change, reason) => {
    expect(reasonOf(() => measureReply({ ...good, ...change }))).toBe(reason);
  });
});
