import type { MessageInitShape } from "@bufbuild/protobuf";
import { create } from "@bufbuild/protobuf";
import {
  FinishedSchema,
  GeneratedTokenSchema,
  type GenerateRequestSchema,
  GetModelResponseSchema,
  StartedSchema,
} from "@persona-mesh/protocol";
import { expect, it } from "vitest";
import { type BaselineClient, measureBaseline } from "./measure-baseline.ts";

const MODEL = "ab".repeat(32);

type Request = MessageInitShape<typeof GenerateRequestSchema>;

/** Answers with as many tokens as the seed says; later prompts first. */
class Worker implements BaselineClient {
  readonly requests: Request[] = [];
  readonly #model: () => string;

  constructor(model: () => string = () => MODEL) {
    this.#model = model;
  }

  async getModel() {
    return create(GetModelResponseSchema, { modelChecksum: MODEL, graphDigest: "01".repeat(32) });
  }

  async generateText(request: Request) {
    this.requests.push(request);
    const seed = Number(request.sampling?.seed);
    await new Promise((resolve) => setTimeout(resolve, 8 - (seed % 8)));
    const tokens = Array.from({ length: seed }, (_, i) =>
      create(GeneratedTokenSchema, { id: 500 + (i % 3), entropy: i === 0 ? -1e-7 : 1, logProb: i === 0 ? 1e-7 : -1 }),
    );
    return {
      text: "",
      tokens,
      started: create(StartedSchema, { modelChecksum: this.#model() }),
      switches: [],
      guardEvents: [],
      promptTokens: [],
      finished: create(FinishedSchema, {}),
      firstTokenMillis: 1,
      totalMillis: 1,
    };
  }
}

const prompts = Array.from({ length: 12 }, (_, i) => ({
  prompt: `ask ${i}`,
  ...(i === 3 ? { system: "Reply in verse." } : {}),
}));

it("asks every prompt once at each temperature, unsteered, and keeps the replies in order", async () => {
  const worker = new Worker();
  const done: number[] = [];
  const options = { prompts, temperatures: [0.6, 1], maxTokens: 40, seed: 2n };
  const baseline = await measureBaseline(worker, options, (count) => done.push(count));
  expect(baseline).toMatchObject({ modelChecksum: MODEL, graphDigest: "01".repeat(32) });
  expect(baseline.samples.map(({ temperature, maxTokens }) => [temperature, maxTokens])).toEqual([
    [0.6, 40],
    [1, 40],
  ]);
  for (const { replies, coherence } of baseline.samples) {
    expect(replies.map(({ tokens }) => tokens.length)).toEqual(prompts.map((_, i) => 2 + i));
    expect(coherence.meanTokens).toBe(7.5);
  }
  expect(baseline.samples[0]?.replies[3]).toEqual({ tokens: [0, 1, 2, 0, 1], entropies: [0, 1, 1, 1, 1] });
  expect(done).toEqual(Array.from({ length: 24 }, (_, i) => i + 1));
  const [third] = worker.requests.filter(({ sampling }) => sampling?.seed === 5n);
  expect(third).toEqual({
    prompt: {
      input: {
        case: "chat",
        value: {
          messages: [
            { role: "system", content: "Reply in verse." },
            { role: "user", content: "ask 3" },
          ],
        },
      },
    },
    persona: { selector: { case: "unsteered", value: {} } },
    sampling: { temperature: 0.6, seed: 5n },
    maxTokens: 40,
  });
});

it("leaves empty replies out, and refuses to make a baseline of too few", async () => {
  const options = { temperatures: [1], maxTokens: 40 };
  const { samples } = await measureBaseline(new Worker(), { ...options, prompts });
  expect(samples[0]?.replies).toHaveLength(11);
  const few = measureBaseline(new Worker(), { ...options, prompts: prompts.slice(0, 7) });
  await expect(few).rejects.toMatchObject({ reason: "BASELINE_INVALID" });
});

it("stops when the worker serves another model", async () => {
  let calls = 0;
  const worker = new Worker(() => (++calls > 4 ? "cd".repeat(32) : MODEL));
  const measured = measureBaseline(worker, { prompts, temperatures: [1], maxTokens: 40, seed: 1n });
  await expect(measured).rejects.toMatchObject({ reason: "RESPONSE_INVALID" });
});
