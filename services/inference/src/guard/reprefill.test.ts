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

test.each(["KEEP", "REPREFILL"] as const)("with %s", async (cache) => {
  const steered = await reply(persona, PROMPT, 34, { ...POLICY, cache });
  const lowered = steered.loweredAfter as number;
  expect(lowered).toBeGreaterThanOrEqual(8);
  expect(lowered).toBeLessThan(30);
  expect(steered.alphas.at(-1)).toEqual({ fromToken: lowered, alphaHundredths: 0 });

  // The same text, read by the model that was never steered: what the rest must be once nothing of alpha is left.
  const before = steered.tokens.slice(0, lowered).map(({ id }) => id);
  const rest = steered.tokens.slice(lowered);
  const plain = await reply(undefined, [...PROMPT, ...before], rest.length);
  const largest = Math.max(
    ...rest.map(({ entropy }, at) => Math.abs(entropy - (plain.tokens[at] as ReplyToken).entropy)),
  );
  if (cache === "REPREFILL") {
    expect(rest.map(({ id }) => id)).toEqual(plain.tokens.map(({ id }) => id));
    expect(largest).toBeLessThan(2e-5);
  } else expect(largest).toBeGreaterThan(5e-4);
});
