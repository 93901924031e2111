import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { GenerateRequestSchema } from "@persona-mesh/protocol";
import { ServiceError } from "@persona-mesh/service";
import { describe, expect, test } from "vitest";
import type { Worker } from "../worker.ts";
import { replySettings } from "./generate-request.ts";

const VOCABULARY = 40;

const WORKER = {
  model: { manifest: { spec: { vocabulary: VOCABULARY }, tokens: { eos: [2, 3] } } },
} as unknown as Worker;

type Request = MessageInitShape<typeof GenerateRequestSchema>;

const settingsOf = (request: Request) => replySettings(WORKER, create(GenerateRequestSchema, request));

function wrongFields(request: Request): string[] {
  try {
    settingsOf(request);
  } catch (error) {
    if (error instanceof ServiceError) return error.fieldViolations.map(({ field }) => field);
    throw error;
  }
  return [];
}

describe("what a request leaves out", () => {
  test("is one reply of at most 256 tokens, drawn from the model's own distribution, to the model's end token", () => {
    expect(settingsOf({})).toEqual({
      sampling: { temperature: 1, topK: 0, topP: 1, minP: 0 },
      edits: {
        repetitionPenalty: 1,
        presencePenalty: 0,
        frequencyPenalty: 0,
        bias: new Map(),
        endTokens: new Set([2, 3]),
        minTokens: 0,
      },
      maxTokens: 256,
      stops: [],
      endTokens: new Set([2, 3]),
      stopTokens: new Set(),
      topLogProbs: 0,
      choices: 1,
    });
  });
});

test("a least length rules out the model's end tokens and the caller's, and only those that would end the reply", () => {
  const ends = (request: Request) => settingsOf({ minTokens: 4, ...request }).edits.endTokens;
  expect(ends({ stopTokenIds: [9] })).toEqual(new Set([2, 3, 9]));
  expect(ends({ stopTokenIds: [9], ignoreEos: true })).toEqual(new Set([9]));
  expect(ends({ ignoreEos: true })).toEqual(new Set());
});

test("every wrong field is named, all at once, where it is", () => {
  const fields = wrongFields({
    sampling: {
      temperature: Number.NaN,
      topP: 0,
      minP: -1,
      repetitionPenalty: 0,
      presencePenalty: Number.POSITIVE_INFINITY,
      frequencyPenalty: -2.5,
      logitBias: [
        { id: 1, bias: 0 },
        { id: 1, bias: 101 },
        { id: VOCABULARY, bias: Number.NaN },
      ],
    },
    persona: { gain: 2 },
    maxTokens: 5,
    minTokens: 6,
    topLogProbs: 21,
    n: 17,
    stop: ["fine", "\uD800"],
    stopTokenIds: [0, VOCABULARY],
  });
  expect(fields).toEqual([
    "sampling.temperature",
    "sampling.top_p",
    "sampling.min_p",
    "sampling.repetition_penalty",
    "sampling.presence_penalty",
    "sampling.frequency_penalty",
    "sampling.logit_bias[1].id",
    "sampling.logit_bias[1].bias",
    "sampling.logit_bias[2].id",
    "sampling.logit_bias[2].bias",
    "min_tokens",
    "top_log_probs",
    "n",
    "stop[1]",
    "stop_token_ids[1]",
    "persona.gain",
  ]);
});

describe("a request that leaves nothing to draw", () => {
  const ruledOut = (count: number) => Array.from({ length: count }, (_, id) => ({ id, bias: -100 }));

  test("is refused: one token has to stay", () => {
    expect(wrongFields({ sampling: { logitBias: ruledOut(VOCABULARY) } })).toEqual(["sampling.logit_bias"]);
    expect(wrongFields({ sampling: { logitBias: ruledOut(VOCABULARY - 1) } })).toEqual([]);
  });

  test("counts what a least length rules out", () => {
    // All but the end tokens 2 and 3.
    const logitBias = ruledOut(VOCABULARY).filter(({ id }) => id !== 2 && id !== 3);
    expect(wrongFields({ sampling: { logitBias } })).toEqual([]);
    expect(wrongFields({ sampling: { logitBias }, minTokens: 1 })).toEqual(["sampling.logit_bias"]);
    expect(wrongFields({ sampling: { logitBias }, minTokens: 1, ignoreEos: true })).toEqual([]);
  });
});
