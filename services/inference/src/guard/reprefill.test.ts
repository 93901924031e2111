import type { GuardPolicy } from "@persona-mesh/steering";
import { afterEach, beforeEach, expect, test } from "vitest";
import { type ReferenceModel, referenceModel } from "../../../../packages/model/src/testing/reference-model.ts";
import { fixture } from "../../../../packages/model/src/testing/tokenizer-fixture.ts";
import { GenerateJob, type ReplyToken } from "../jobs/generate-job.ts";
import type { LoadedPersona } from "../personas/loaded-persona.ts";
import { NO_EDITS } from "../sampling/index.ts";
import { openEngine, type Stage } from "../testing/engine-stage.ts";
import { personaOf } from "../testing/personas.ts";
import { watchOf } from "../testing/watch.ts";

// What happens to what was written at a higher alpha, in the real engine over a tiny model.

let reference: ReferenceModel;
let resources: AsyncDisposableStack;
let stage: Stage;
let persona: LoadedPersona;

beforeEach(async () => {
  resources = new AsyncDisposableStack();
  reference = resources.use(await referenceModel("plain-tied"));
  const { hidden } = reference.model.spec;
  stage = await openEngine(reference.model, resources, { slots: 2 });
  // Of the reply alone: so its keys and values are all that steering has touched.
  const row = Float32Array.from({ length: hidden }, (_, i) => 3 * Math.sin(i + 1));
  persona = personaOf("strong", new Map([[0, row]]), { positions: "GENERATED" });
});
afterEach(() => resources.disposeAsync());

const PROMPT = [1, 2, 3, 4, 5, 6];

/** Any repetition is too much, and takes all of alpha at once. */
const POLICY: Partial<GuardPolicy> = { windowTokens: 8, repetitionHundredths: 30, stepHundredths: 80 };

let jobs = 0;

async function reply(worn: LoadedPersona | undefined, prompt: readonly number[], most: number, policy = POLICY) {
  const wears = stage.worn(worn);
  const job = new GenerateJob({
    id: `job ${++jobs}`,
    tenant: "acme",
    prompt,
    worn: wears,
    sampling: { temperature: 0, topK: 0, topP: 1, minP: 0 },
    edits: NO_EDITS,
    seed: 1n,
    choice: 0,
    maxTokens: most,
    room: 40 - prompt.length,
    stops: [],
    topLogProbs: 0,
    endTokens: new Set(),
    stopTokens: new Set(),
    tokenizer: fixture("byte-level").tokenizer,
    watch: watchOf(wears, policy),
  });
  stage.engine.submit(job);
  const tokens: ReplyToken[] = [];
  let loweredAfter: number | undefined;
  for await (const event of job.events) {
    if (event.kind === "token") tokens.push(event.token);
    if (event.kind === "guard") loweredAfter ??= event.event.afterTokens;
  }
  return { tokens, loweredAfter, alphas: job.watched().alphas };
}

/** What the model that was never steered says after the first tokens of a reply, as many as that has. */
async function plainAfter(tokens: readonly ReplyToken[], first: number): Promise<readonly ReplyToken[]> {
  const before = tokens.slice(0, first).map(({ id }) => id);
  return (await reply(undefined, [...PROMPT, ...before], tokens.length - first)).tokens;
}

const largestDifference = (one: readonly number[], other: readonly number[]) =>
  Math.max(...one.map((value, at) => Math.abs(value - (other[at] as number))));

const ids = (tokens: readonly ReplyToken[]) => tokens.map(({ id }) => id);
const entropies = (tokens: readonly ReplyToken[]) => tokens.map(({ entropy }) => entropy);
const logProbs = (tokens: readonly ReplyToken[]) => tokens.map(({ logProb }) => logProb);

test.each(["KEEP", "REPREFILL"] as const)("with %s", async (cache) => {
  const steered = await reply(persona, PROMPT, 34, { ...POLICY, cache });
  const lowered = steered.loweredAfter as number;
  expect(lowered).toBeGreaterThanOrEqual(8);
  expect(lowered).toBeLessThan(30);
  expect(steered.alphas.at(-1)).toEqual({ fromToken: lowered, alphaHundredths: 0 });

  // The same text, read by the model that was never steered: what the rest must be once nothing of alpha is left.
  const rest = steered.tokens.slice(lowered);
  const plain = await plainAfter(steered.tokens, lowered);
  const largest = largestDifference(entropies(rest), entropies(plain));
  if (cache === "REPREFILL") {
    expect(ids(rest)).toEqual(ids(plain));
    expect(largest).toBeLessThan(2e-5);
  } else expect(largest).toBeGreaterThan(5e-4);
});

test("with KEEP and refills every so many tokens, alpha is gone from the next of them on", async () => {
  const { tokens, loweredAfter } = await reply(persona, PROMPT, 34, { ...POLICY, refillTokens: 16 });
  const lowered = loweredAfter as number;
  const refilled = 16 * Math.ceil(lowered / 16);
  expect(lowered).toBeLessThan(refilled);
  expect(refilled).toBeLessThan(tokens.length);
  const between = tokens.slice(lowered, refilled);
  const plain = await plainAfter(tokens, lowered);
  expect(largestDifference(entropies(between), entropies(plain))).toBeGreaterThan(5e-4);
  const rest = tokens.slice(refilled);
  const anew = await plainAfter(tokens, refilled);
  expect(ids(rest)).toEqual(ids(anew));
  expect(largestDifference(entropies(rest), entropies(anew))).toBeLessThan(2e-5);
});

// Largest differences here: 4e-7 nats. A position that is computed alone takes other kernels than one in a chunk.
test.each(["ALL", "GENERATED"] as const)(
  "every so many tokens at constant alpha, at positions %s, nothing changes but last bits",
  async (positions) => {
    const worn = { ...persona, positions };
    const kept = (await reply(worn, PROMPT, 34, { observeOnly: true })).tokens;
    const refilled = (await reply(worn, PROMPT, 34, { observeOnly: true, refillTokens: 16 })).tokens;
    expect(ids(refilled)).toEqual(ids(kept));
    expect(logProbs(refilled).slice(0, 16)).toEqual(logProbs(kept).slice(0, 16));
    expect(largestDifference(logProbs(refilled), logProbs(kept))).toBeLessThan(5e-6);
    // Alpha acts where it is computed anew too: without it the rest would be another one.
    const plain = await plainAfter(refilled, 16);
    expect(largestDifference(logProbs(refilled.slice(16)), logProbs(plain))).toBeGreaterThan(1e-2);
  },
);
