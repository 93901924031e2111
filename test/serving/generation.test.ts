import { create } from "@bufbuild/protobuf";
import type { InferenceClient, Reply } from "@persona-mesh/client";
import { DataType, FinishReason, PersonaSelectorSchema } from "@persona-mesh/protocol";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { failureOf } from "../support/failure.ts";
import { personaName } from "../support/personas.ts";
import { ask, fingerprint, tokensPrompt } from "../support/requests.ts";
import { openStage, type Stage } from "../support/stage.ts";

let stage: Stage;
let client: InferenceClient;

const AS = personaName("acme", "loud");
const PROMPT = tokensPrompt([5, 90, 200, 300, 410, 77, 90, 200]);

beforeAll(async () => {
  stage = await openStage({ slots: 8 }, [{ name: "loud", seed: 1, layers: [2, 3], alpha: 0.4 }]);
  client = stage.client;
});
afterAll(() => stage.mesh.close());

const ids = ({ tokens }: Reply) => tokens.map(({ id }) => id);

describe("what is drawn", () => {
  test("a bias forces a token, and another rules it out", async () => {
    const greedy = { temperature: 0 };
    const [usual] = ids(await client.generateText(ask("hello", { sampling: greedy, maxTokens: 4 })));
    const forced = await client.generateText(
      ask("hello", { sampling: { ...greedy, logitBias: [{ id: 700, bias: 100 }] }, maxTokens: 4 }),
    );
    expect(ids(forced)).toEqual([700, 700, 700, 700]);
    // What it says of the token is the model's own opinion.
    expect(forced.tokens[0]?.logProb).toBeLessThan(-3);
    const without = await client.generateText(
      ask("hello", { sampling: { ...greedy, logitBias: [{ id: usual as number, bias: -100 }] }, maxTokens: 16 }),
    );
    expect(ids(without)).not.toContain(usual);
  });

  test("a frequency penalty breaks a loop that greedy decoding falls into", async () => {
    const longest = (reply: Reply) =>
      Math.max(...ids(reply).map((id) => ids(reply).filter((other) => other === id).length));
    const request = { maxTokens: 120, sampling: { temperature: 0 } };
    const plain = await client.generateText(ask("hello", request));
    const penalised = await client.generateText(
      ask("hello", { ...request, sampling: { temperature: 0, frequencyPenalty: 2 } }),
    );
    expect(longest(penalised)).toBeLessThan(longest(plain));
    expect(penalised.finished.repetition).toBeLessThan(plain.finished.repetition);
  });

  test("a request that edits logits is the same to the bit beside others that do and do not", async () => {
    const edited = ask("hello", { as: AS, sampling: { repetitionPenalty: 1.3, presencePenalty: 0.2 }, seed: 3n });
    const alone = fingerprint(await client.generateText(edited));
    const [beside] = await Promise.all([
      client.generateText(edited),
      client.generateText(ask("other", { sampling: { frequencyPenalty: 1 } })),
      client.generateText(ask("third", {})),
    ]);
    expect(fingerprint(beside)).toEqual(alone);
  });
});

describe("where a reply ends", () => {
  test("not before it has its least length, then as ever", async () => {
    const request = { ignoreEos: false, maxTokens: 200 };
    const short = await client.generateText(ask("hello", request));
    expect(short.finished.reason).toBe(FinishReason.END);
    const least = short.finished.completionTokens + 20;
    const long = await client.generateText(ask("hello", { ...request, minTokens: least }));
    expect(long.finished.completionTokens).toBeGreaterThanOrEqual(least);
  });

  test("at a stop token, which is not part of the text", async () => {
    const free = await client.generateText(ask("hello", {}));
    const stop = ids(free)[5] as number;
    const first = ids(free).indexOf(stop);
    const stopped = await client.generateText(ask("hello", { stopTokenIds: [stop] }));
    expect(stopped.finished.reason).toBe(FinishReason.STOP);
    expect(ids(stopped)).toEqual(ids(free).slice(0, first + 1));
    expect(free.text.startsWith(stopped.text)).toBe(true);
    const late = await client.generateText(ask("hello", { stopTokenIds: [stop], minTokens: first + 3 }));
    expect(late.finished.completionTokens).toBeGreaterThan(first + 1);
  });
});

describe("several replies of a call", () => {
  test("each is what its choice gives whatever else is asked for, and the first is the reply of a single one", async () => {
    const request = ask("hello", { as: AS });
    const single = await client.generateText(request);
    const three = await client.generateTexts({ ...request, n: 3 });
    const two = await client.generateTexts({ ...request, n: 2 });
    expect(fingerprint(three[0] as Reply)).toEqual(fingerprint(single));
    expect(two.map(fingerprint)).toEqual(three.slice(0, 2).map(fingerprint));
    expect(new Set(three.map(({ text }) => text)).size).toBe(3);
    for (const { started, finished } of three) {
      expect(started.persona?.name).toBe(AS);
      expect(finished.completionTokens).toBe(24);
    }
  });

  test("more than there are slots take turns", async () => {
    const replies = await client.generateTexts({ ...ask("hello", { maxTokens: 6 }), n: 16 });
    expect(replies.map(({ tokens }) => tokens.length)).toEqual(new Array(16).fill(6));
  });

  test("leaving ends all of them", async () => {
    for await (const { event } of client.generateChoices({ ...ask("hello", { maxTokens: 500 }), n: 4 })) {
      if (event.case === "tokens") break;
    }
    await expect.poll(() => stage.mesh.running.worker.engine.figures().running).toBe(0);
  });
});

test("the prompt's log-probabilities are those that scoring gives, with the persona as it reads", async () => {
  for (const as of ["", AS]) {
    const { promptTokens, tokens } = await client.generateText(
      ask("", { prompt: PROMPT, as, promptLogProbs: true, topLogProbs: 2, maxTokens: 3 }),
    );
    const given = PROMPT.input as { value: { ids: number[] } };
    expect(promptTokens.map(({ id }) => id)).toEqual(given.value.ids.slice(1));
    const { persona } = ask("", { as });
    const { continuations } = await client.score({
      prompt: tokensPrompt(given.value.ids.slice(0, 1)),
      persona: persona as NonNullable<typeof persona>,
      continuations: [{ input: { case: "tokenIds", value: { ids: given.value.ids.slice(1) } } }],
    });
    const side = as === "" ? continuations[0]?.unsteered : continuations[0]?.steered;
    // The same computation in chunks of another cut; the persona acts on prompt and reply alike.
    promptTokens.forEach(({ logProb, topLogProbs }, at) => {
      expect(logProb).toBeCloseTo(side?.logProbs[at] as number, 4);
      expect(topLogProbs).toHaveLength(2);
      expect(topLogProbs[0]?.logProb).toBeGreaterThanOrEqual(topLogProbs[1]?.logProb as number);
      expect(topLogProbs[0]?.logProb).toBeGreaterThanOrEqual(logProb - 1e-5);
    });
    expect(tokens).toHaveLength(3);
  }
});

describe("a pinned revision", () => {
  const pinned = (value: string) => ({ persona: { selector: { case: "revision" as const, value } } });

  test("is served while it is the one in force, and refused by its own reason afterwards", async () => {
    const { started } = await client.generateText(ask("hello", { as: AS }));
    const revision = `${AS}/revisions/${started.persona?.revision}`;
    const named = await client.generateText(ask("hello", { as: AS }));
    expect(fingerprint(await client.generateText(ask("hello", pinned(revision))))).toEqual(fingerprint(named));
    expect(await failureOf(client.generateText(ask("hello", pinned(`${AS}/revisions/other`))))).toMatchObject({
      reason: "REVISION_NOT_SERVED",
    });
    for (const value of [
      `${personaName("acme", "nobody")}/revisions/1`,
      `${personaName("globex", "loud")}/revisions/1`,
      "",
    ]) {
      expect(await failureOf(client.generateText(ask("hello", pinned(value))))).toMatchObject({
        reason: "PERSONA_NOT_FOUND",
      });
    }
  });
});

test("sweeps go past the cap for the platform's services, and for nobody else", async () => {
  const { hiddenSize, modelChecksum } = stage.served.model;
  const direction = new Float32Array(hiddenSize).fill(1 / Math.sqrt(hiddenSize));
  const inline = (sweep: boolean, alphaHundredths: number) => ({
    persona: create(PersonaSelectorSchema, {
      selector: {
        case: "inline" as const,
        value: {
          sweep,
          terms: [
            {
              modelChecksum,
              alphaHundredths,
              directions: [2, 3, 4].map((layer) => ({
                layer,
                referenceNorm: 1,
                direction: { dataType: DataType.FLOAT32, shape: [hiddenSize], data: new Uint8Array(direction.buffer) },
              })),
            },
          ],
        },
      },
    }),
  });
  const platform = await stage.mesh.client({ tenant: "platform", roles: ["service"] });
  const { started } = await platform.generateText(ask("hello", inline(true, 120)));
  expect(started.persona?.effectiveAlphaHundredths).toBe(120);
  expect(await failureOf(platform.generateText(ask("hello", inline(true, 121))))).toMatchObject({
    reason: "ALPHA_OVER_CAP",
  });
  expect(await failureOf(platform.generateText(ask("hello", inline(false, 120))))).toMatchObject({
    reason: "ALPHA_OVER_CAP",
  });
  for (const caller of [stage.service, client]) {
    expect(await failureOf(caller.generateText(ask("hello", inline(true, 40))))).toMatchObject({
      reason: "PERMISSION_DENIED",
    });
  }
});
