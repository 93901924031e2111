import { create, toBinary } from "@bufbuild/protobuf";
import { type GenerateResponse, GenerateResponseSchema } from "@persona-mesh/protocol";
import { MAX_MESSAGE_BYTES } from "@persona-mesh/service";
import { expect, test } from "vitest";
import type { PromptToken } from "../jobs/prompt-log-probs-job.ts";
import { promptLogProbs } from "./generate-messages.ts";

/** Every field as long as it can be. */
function promptOf(tokens: number, alternatives = 20): PromptToken[] {
  const at = (id: number) => ({ id: 4_000_000_000 + id, logProb: -1.5 - id });
  const others = Array.from({ length: alternatives }, (_, rank) => at(rank));
  return Array.from({ length: tokens }, (_, id) => ({ ...at(id), alternatives: others }));
}

function messages(tokens: readonly PromptToken[]): GenerateResponse[] {
  return Array.from(promptLogProbs(tokens), (event) => create(GenerateResponseSchema, { event }));
}

const tokensOf = ({ event }: GenerateResponse) => (event.case === "promptLogProbs" ? event.value.tokens : []);

test("a long prompt's log-probabilities come in order, in messages well below what a client takes", () => {
  const prompt = promptOf(10_000);
  const told = messages(prompt);
  expect(told.map((message) => tokensOf(message).length)).toEqual([4096, 4096, 1808]);
  expect(told.flatMap(tokensOf).map(({ id }) => id)).toEqual(prompt.map(({ id }) => id));
  for (const message of told) {
    expect(toBinary(GenerateResponseSchema, message).length).toBeLessThan(MAX_MESSAGE_BYTES / 2);
  }
});

test("whole pieces end with no empty one; a prompt without such tokens is told as such", () => {
  expect(messages(promptOf(4096, 0)).map((message) => tokensOf(message).length)).toEqual([4096]);
  expect(messages([]).map((message) => tokensOf(message).length)).toEqual([0]);
});
