import { status } from "@grpc/grpc-js";
import type { InferenceClient } from "@persona-mesh/client";
import { afterAll, beforeAll, expect, test } from "vitest";
import { failureOf } from "../support/failure.ts";
import { type AskOptions, ask } from "../support/requests.ts";
import { openTestWorker, type TestWorker } from "../support/test-worker.ts";

let mesh: TestWorker;
let client: InferenceClient;
let vocabulary: number;

beforeAll(async () => {
  mesh = await openTestWorker({ slots: 4 });
  client = await mesh.client();
  vocabulary = (await client.getModel()).vocabularySize;
});
afterAll(() => mesh.close());

const list = <Item>(length: number, item: (index: number) => Item) => Array.from({ length }, (_, index) => item(index));
const sampling = (values: NonNullable<AskOptions["sampling"]>): AskOptions => ({ sampling: values });
const bias = (id: number, value: number) => sampling({ logitBias: [{ id, bias: value }] });

/** Field, the extremes that it takes, and what lies beyond them. */
const BOUNDS: [string, () => AskOptions[], () => AskOptions[]][] = [
  [
    "sampling.temperature",
    () => [sampling({ temperature: 0 }), sampling({ temperature: 10 })],
    () => [-0.001, 10.001, Number.NaN, Number.POSITIVE_INFINITY].map((temperature) => sampling({ temperature })),
  ],
  [
    "sampling.top_p",
    () => [sampling({ topP: 1e-9 }), sampling({ topP: 1 })],
    () => [0, -1, 1.001, Number.NaN].map((topP) => sampling({ topP })),
  ],
  [
    "sampling.min_p",
    () => [sampling({ minP: 0 }), sampling({ minP: 1 })],
    () => [-0.001, 1.001, Number.NaN].map((minP) => sampling({ minP })),
  ],
  [
    "sampling.repetition_penalty",
    () => [sampling({ repetitionPenalty: 1e-3 }), sampling({ repetitionPenalty: 10 })],
    () => [0, -1, 10.001, Number.NaN].map((repetitionPenalty) => sampling({ repetitionPenalty })),
  ],
  [
    "sampling.presence_penalty",
    () => [sampling({ presencePenalty: -2 }), sampling({ presencePenalty: 2 })],
    () => [-2.001, 2.001, Number.NaN].map((presencePenalty) => sampling({ presencePenalty })),
  ],
  [
    "sampling.frequency_penalty",
    () => [sampling({ frequencyPenalty: -2 }), sampling({ frequencyPenalty: 2 })],
    () => [-2.001, 2.001, Number.NaN].map((frequencyPenalty) => sampling({ frequencyPenalty })),
  ],
  [
    "sampling.logit_bias[0].bias",
    () => [bias(5, -100), bias(5, 100)],
    () => [bias(5, -100.001), bias(5, 100.001), bias(5, Number.NaN)],
  ],
  ["sampling.logit_bias[0].id", () => [bias(vocabulary - 1, 1)], () => [bias(vocabulary, 1), bias(4_294_967_295, 1)]],
  ["sampling.logit_bias[1].id", () => [], () => [sampling({ logitBias: [5, 5].map((id) => ({ id, bias: 1 })) })]],
  [
    "sampling.logit_bias",
    () => [sampling({ logitBias: list(1024, (id) => ({ id, bias: -100 })) })],
    () => [sampling({ logitBias: list(1025, (id) => ({ id, bias: 0 })) })],
  ],
  ["max_tokens", () => [{ maxTokens: 1 }], () => [{ maxTokens: 0 }]],
  ["min_tokens", () => [{ minTokens: 2, maxTokens: 2 }], () => [{ minTokens: 3, maxTokens: 2 }]],
  ["top_log_probs", () => [{ topLogProbs: 20 }], () => [{ topLogProbs: 21 }]],
  ["n", () => [{ n: 1 }], () => [{ n: 0 }, { n: 17 }]],
  ["stop", () => [{ stop: list(8, String) }], () => [{ stop: list(9, String) }]],
  ["stop[1]", () => [{ stop: ["a", "😀".repeat(64)] }], () => [{ stop: ["a", ""] }, { stop: ["a", "x".repeat(65)] }]],
  ["stop_token_ids", () => [{ stopTokenIds: list(64, Number) }], () => [{ stopTokenIds: list(65, Number) }]],
  ["stop_token_ids[1]", () => [{ stopTokenIds: [5, vocabulary - 1] }], () => [{ stopTokenIds: [5, vocabulary] }]],
  ["persona.gain", () => [{ gain: 0 }, { gain: 1 }], () => [-0.001, 1.001, Number.NaN].map((gain) => ({ gain }))],
];

test.each(BOUNDS)("%s is taken to its bounds and refused beyond", async (field, within, beyond) => {
  for (const options of within()) {
    const { tokens } = await client.generateText(ask("hello", { maxTokens: 2, ...options }));
    expect(tokens.length).toBeGreaterThan(0);
  }
  for (const options of beyond()) {
    const failure = await failureOf(client.generateTexts(ask("hello", { maxTokens: 2, ...options })));
    expect(failure).toMatchObject({ code: status.INVALID_ARGUMENT, reason: "INVALID_ARGUMENT" });
    expect(failure.fieldViolations.map(({ field: named }) => named)).toContain(field);
  }
});

test("what is asked of the guard beyond a caller's rights is denied, not passed over", async () => {
  expect(await failureOf(client.generateText(ask("hello", { guard: { observeOnly: true } as never })))).toMatchObject({
    code: status.PERMISSION_DENIED,
  });
});
