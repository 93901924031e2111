import type { InferenceClient, Reply } from "@persona-mesh/client";
import { afterAll, beforeAll, expect, test } from "vitest";
import { collect } from "../support/failure.ts";
import { personaName, writeTenant } from "../support/personas.ts";
import { uniform } from "../support/random.ts";
import { ask, fingerprint } from "../support/requests.ts";
import { askServedModel, type ServedModel } from "../support/served-model.ts";
import { openTestWorker, type TestWorker } from "../support/test-worker.ts";
import { until } from "../support/until.ts";

// The promise of the batch: what a request gets depends on the request alone, to the bit, whatever runs beside it.

const ACME = personaName("acme", "loud");
const GLOBEX = personaName("globex", "calm");
const INITECH = personaName("initech", "odd");

let mesh: TestWorker;
let served: ServedModel;
let acme: InferenceClient;
let globex: InferenceClient;
let initech: InferenceClient;

beforeAll(async () => {
  mesh = await openTestWorker({ slots: 8, chunkTokens: 32, threads: 2 });
  served = await askServedModel(await mesh.client({ roles: ["service"] }));
  const { layers } = served.model;
  await writeTenant(mesh.personasDir, "acme", served, [{ name: "loud", seed: 1, layers: [2, 3], alpha: 0.5 }]);
  await writeTenant(mesh.personasDir, "globex", served, [
    { name: "calm", seed: 2, layers: [1, layers - 1], alpha: -0.5, mode: "ADD_RENORM" },
  ]);
  await writeTenant(mesh.personasDir, "initech", served, [
    { name: "odd", seed: 3, layers: [0, 4], alpha: 0.5, positions: "GENERATED" },
  ]);
  acme = await mesh.client({ tenant: "acme" });
  globex = await mesh.client({ tenant: "globex" });
  initech = await mesh.client({ tenant: "initech" });
  for (const client of [acme, globex, initech]) {
    await until(async () => (await collect(client.listLoadedPersonas())).length === 1, "its persona is loaded");
  }
});

afterAll(() => mesh.close());

const figures = () => mesh.running.worker.engine.figures();

/**
 * Other tenants' streams that come and go for as long as `during` runs: prompts of one to many chunks, replies of one token
 * to many, some cut off by their client.
 */
async function amongOthers<Result>(seed: number, during: () => Promise<Result>): Promise<Result> {
  const next = uniform(seed);
  const over = new AbortController();
  const others = [
    { client: globex, as: GLOBEX },
    { client: globex, as: GLOBEX },
    { client: initech, as: INITECH },
    { client: initech, as: "" },
    { client: globex, as: GLOBEX },
    { client: initech, as: INITECH },
  ].map(async ({ client, as }) => {
    while (!over.signal.aborted) {
      const words = "a parcel that never came ".repeat(1 + Math.floor(next() * 20));
      const maxTokens = 1 + Math.floor(next() * 60);
      const request = ask(words, { as, maxTokens, seed: BigInt(Math.floor(next() * 1e9)), gain: next() });
      let left = next() < 0.3 ? Math.floor(next() * maxTokens) : maxTokens + 2;
      for await (const _ of client.generate(request)) if (--left < 0) break;
    }
  });
  try {
    await until(() => figures().running >= 6, "the batch is busy");
    return await during();
  } finally {
    over.abort();
    await Promise.all(others);
  }
}

const REQUESTS = {
  "an unsteered stream": () => ask("Where is my parcel?", { maxTokens: 80, topLogProbs: 3 }),
  "a greedy one": () => ask("Where is my parcel?", { maxTokens: 40, sampling: { temperature: 0 } }),
  "one with a prompt of many chunks": () => ask("I would like a refund, please. ".repeat(20), { maxTokens: 40 }),
  "one that draws from the whole vocabulary": () => ask("hello", { maxTokens: 40, sampling: { temperature: 5 } }),
  "one whose logits are edited": () =>
    ask("hello", {
      maxTokens: 40,
      as: ACME,
      topLogProbs: 3,
      minTokens: 30,
      ignoreEos: false,
      sampling: { repetitionPenalty: 1.2, frequencyPenalty: 0.3, logitBias: [{ id: 700, bias: 2 }] },
    }),
  "a steered stream": () => ask("Where is my parcel?", { maxTokens: 80, as: ACME }),
} as const;

test.each(Object.entries(REQUESTS))("%s is the same to the bit alone and in a busy mixed batch", async (_, request) => {
  await until(() => figures().running === 0, "nothing runs");
  const alone = await acme.generateText(request());
  const busy = await amongOthers(1, async () => {
    const replies: Reply[] = [];
    // More at once than there are slots left: they come into whichever becomes free, also below others.
    for (let round = 0; round < 2; round++) {
      replies.push(...(await Promise.all([1, 2, 3, 4].map(() => acme.generateText(request())))));
    }
    return replies;
  });
  expect(alone.tokens.length).toBeGreaterThanOrEqual(30);
  for (const reply of busy) {
    expect(fingerprint(reply)).toEqual(fingerprint(alone));
    expect(reply.tokens.map(({ projections }) => projections)).toEqual(
      alone.tokens.map(({ projections }) => projections),
    );
    expect(reply.tokens.map(({ topLogProbs }) => topLogProbs)).toEqual(
      alone.tokens.map(({ topLogProbs }) => topLogProbs),
    );
  }
});

test("every choice of a call is the same to the bit alone, with more choices beside it, and in a busy mixed batch", async () => {
  await until(() => figures().running === 0, "nothing runs");
  const request = ask("Where is my parcel?", {
    maxTokens: 30,
    as: ACME,
    sampling: { presencePenalty: 0.4, topP: 0.95 },
  });
  const prints = async (n: number) => (await acme.generateTexts({ ...request, n })).map(fingerprint);
  const alone = await prints(3);
  expect(new Set(alone.map(({ text }) => text)).size).toBe(3);
  expect((await prints(16)).slice(0, 3)).toEqual(alone);
  const busy = await amongOthers(2, () => Promise.all([prints(3), prints(5), prints(1)]));
  for (const replies of busy) expect(replies.slice(0, 3)).toEqual(alone.slice(0, replies.length));
});

test("steering and seed do make a difference", async () => {
  const request = { maxTokens: 40 } as const;
  const prompt = "Where is my parcel?";
  const plain = fingerprint(await acme.generateText(ask(prompt, request)));
  const steered = fingerprint(await acme.generateText(ask(prompt, { ...request, as: ACME })));
  const reseeded = fingerprint(await acme.generateText(ask(prompt, { ...request, seed: 8n })));
  expect(steered.logProbs).not.toEqual(plain.logProbs);
  expect(reseeded.ids).not.toEqual(plain.ids);
});

test("a seed that nobody chose is told, and gives the reply again", async () => {
  const { sampling: _, ...request } = ask("hello");
  const first = await acme.generateText(request);
  const other = await acme.generateText(request);
  expect(other.started.seed).not.toBe(first.started.seed);
  const again = await acme.generateText(ask("hello", { seed: first.started.seed }));
  expect(fingerprint(again)).toEqual(fingerprint(first));
});

test("more requests than slots: all get their own reply", async () => {
  const prompts = Array.from({ length: 30 }, (_, index) => `My order is number ${index}.`);
  const requests = prompts.map((prompt, index) => ask(prompt, { maxTokens: 12, as: index % 3 === 0 ? ACME : "" }));
  const together = await Promise.all(requests.map((request) => acme.generateText(request)));
  for (const [index, request] of requests.entries()) {
    if (index % 5 !== 0) continue;
    expect(fingerprint(together[index] as Reply)).toEqual(fingerprint(await acme.generateText(request)));
  }
  expect(new Set(together.map((reply) => reply.started.requestId)).size).toBe(30);
});
