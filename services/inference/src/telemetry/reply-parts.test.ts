import { expect, test } from "vitest";
import { replyParts } from "./reply-parts.ts";
import type { ServedReply } from "./served-reply.ts";

const REPLY: ServedReply = {
  operation: "text_completion",
  choice: 0,
  choices: 1,
  promptTokens: 40,
  cachedTokens: 16,
  replyTokens: 11,
  outcome: { kind: "finished", reason: "stop" },
  times: { queued: 100, started: 130, firstToken: 230, ended: 430, preemptedMillis: 0 },
  persona: { revision: "r1", versionDigests: ["abc"], effectiveAlphaHundredths: 35 },
  watched: {
    events: [
      {
        cause: "REPETITION",
        at: 300,
        afterTokens: 5,
        entropyRatio: 1,
        repetition: 0.9,
        kl: undefined,
        alphaBeforeHundredths: 45,
        alphaAfterHundredths: 35,
      },
    ],
    coherence: { score: 0.9, weakest: "repetition", parts: { entropy: 1, repetition: 0.9 }, entropyRatio: 1 },
    twin: { tokens: 8, meanKl: 0.3, maxKl: 1, meanEntropyDifference: 0 },
  },
};

test("a reply is three parts, each from where the one before ended", () => {
  const parts = replyParts(REPLY);
  expect(parts.map(({ name, start, end }) => [name, start, end])).toEqual([
    ["queue", 100, 130],
    ["prefill", 130, 230],
    ["decode", 230, 430],
  ]);
  expect(parts.every(({ failed }) => !failed)).toBe(true);
  expect(parts[1]?.attributes).toEqual({
    "gen_ai.usage.input_tokens": 40,
    "gen_ai.usage.cache_read.input_tokens": 16,
    "persona.revision": "r1",
    "persona.alpha": 0.35,
  });
  expect(parts[2]).toMatchObject({
    attributes: {
      "gen_ai.usage.output_tokens": 11,
      "gen_ai.response.finish_reasons": ["stop"],
      "gen_ai.operation.name": "text_completion",
      "persona.revision": "r1",
      "persona.alpha": 0.35,
      "persona.coherence": 0.9,
      "persona.twin.kl": 0.3,
      "persona.twin.tokens": 8,
    },
    events: [
      {
        name: "guard",
        at: 300,
        attributes: {
          "persona.guard.cause": "repetition",
          "persona.guard.after_tokens": 5,
          "persona.alpha.before": 0.45,
          "persona.alpha.after": 0.35,
        },
      },
    ],
  });
});

test("time without a slot is said of a reply that had given its slot up, and of no other", () => {
  const told = (preemptedMillis: number) =>
    replyParts({ ...REPLY, times: { ...REPLY.times, preemptedMillis } }).map(
      ({ attributes }) => attributes?.["persona.preempted_millis"],
    );
  expect(told(12.5)).toEqual([undefined, 12.5, 12.5]);
  expect(told(0)).toEqual([undefined, undefined, undefined]);
});

test.each([
  ["queue", { queued: 100, ended: 150 }],
  ["prefill", { queued: 100, started: 130, ended: 150 }],
  ["decode", { queued: 100, started: 130, firstToken: 140, ended: 150 }],
])("one that is lost in %s ends there, with the reason", (name, times) => {
  const parts = replyParts({
    ...REPLY,
    outcome: { kind: "failed", reason: "STEP_FAILED" },
    times: { ...times, preemptedMillis: 0 },
  });
  expect(parts.at(-1)).toMatchObject({ name, end: 150, failed: true, attributes: { "error.type": "STEP_FAILED" } });
  expect(parts.slice(0, -1).some(({ failed }) => failed)).toBe(false);
});

test("replies of one call say which they are", () => {
  const parts = replyParts({ ...REPLY, choice: 2, choices: 4 });
  expect(parts.map(({ attributes }) => attributes?.["persona.choice"])).toEqual([2, 2, 2]);
});

test("an unsteered reply has no persona", () => {
  const parts = replyParts({ ...REPLY, persona: undefined });
  expect(parts.flatMap(({ attributes = {} }) => Object.keys(attributes))).not.toContain("persona.revision");
});
