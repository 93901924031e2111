import { klDivergence } from "@persona-mesh/steering";
import { afterEach, beforeEach, expect, test } from "vitest";
import { type ReferenceModel, referenceModel } from "../../../../packages/model/src/testing/reference-model.ts";
import type { GeneratingJob, TokenState } from "../engine/engine-job.ts";
import type { Heads, TopState } from "../engine/heads.ts";
import type { WornPersona } from "../engine/worn-persona.ts";
import type { LoadedPersona } from "../personas/loaded-persona.ts";
import type { Ending, RowOutcome } from "../scheduler/index.ts";
import { openEngine, type Stage } from "../testing/engine-stage.ts";
import { personaOf } from "../testing/personas.ts";
import { TwinJob } from "./twin-job.ts";

// Twins in the real engine, over a tiny model.

let reference: ReferenceModel;
let resources: AsyncDisposableStack;
let stage: Stage;
let persona: LoadedPersona;

beforeEach(async () => {
  resources = new AsyncDisposableStack();
  reference = resources.use(await referenceModel("plain-tied"));
  const { hidden } = reference.model.spec;
  stage = await openEngine(reference.model, resources, { slots: 2, prefixBytes: 1e6 });
  persona = personaOf("strong", new Map([[0, Float32Array.from({ length: hidden }, (_, i) => Math.sin(i + 1))]]));
});
afterEach(() => resources.disposeAsync());

const wornOf = (worn?: LoadedPersona) => stage.worn(worn);

const PROMPT = [1, 2, 3, 4, 5, 6, 7];

/** Writes greedily, and shows every token to its twin. */
class Writer implements GeneratingJob {
  readonly kind = "generate";
  readonly tenant = "acme";
  readonly id: string;
  readonly prompt: Int32Array;
  readonly tokens: number;
  readonly sampling = { temperature: 0 };
  readonly reply: number[] = [];
  readonly logits: Float32Array[] = [];
  readonly entropies: number[] = [];
  readonly over: Promise<void>;
  readonly worn: WornPersona;
  readonly #end: () => void;
  readonly #most: number;
  readonly #twin: TwinJob | undefined;

  constructor(worn: WornPersona, most: number, twin?: TwinJob, prompt: readonly number[] = PROMPT) {
    this.id = `writer ${Math.random()}`;
    this.prompt = Int32Array.from(prompt);
    this.tokens = prompt.length;
    this.worn = worn;
    this.#most = most;
    this.#twin = twin;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.over = promise;
    this.#end = resolve;
  }

  get nextToken(): number {
    return this.reply.at(-1) as number;
  }

  beforeStep(): void {}

  async sample({ hidden }: TokenState, top: TopState, heads: Heads): Promise<RowOutcome> {
    const id = top.row.ids[0] as number;
    this.logits.push(await heads.logits(hidden));
    this.entropies.push(top.entropy);
    this.reply.push(id);
    this.#twin?.take({ id, hidden, entropy: top.entropy });
    return this.reply.length < this.#most ? { kind: "continue" } : { kind: "finish", reason: "maxTokens" };
  }

  ended(_: Ending): void {
    this.#twin?.close();
    this.#end();
  }
}

/** Teacher forcing: the unsteered logits after the prompt and after each token of a reply. */
async function unsteeredLogits(reply: readonly number[]): Promise<Float32Array[]> {
  const logits: Float32Array[] = [];
  for (let count = 0; count < reply.length; count++) {
    const writer = new Writer(wornOf(), 1, undefined, [...PROMPT, ...reply.slice(0, count)]);
    stage.engine.submit(writer);
    await writer.over;
    logits.push(writer.logits[0] as Float32Array);
  }
  return logits;
}

function entropyOf(logits: Float32Array): number {
  const max = Math.max(...logits);
  const weights = [...logits].map((logit) => Math.exp(logit - max));
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  return -weights.reduce((sum, weight) => sum + (weight / total) * Math.log(weight / total), 0);
}

/** A steered reply with a twin beside it. */
async function twinned(worn: LoadedPersona | undefined, tokens: number, windowTokens = 8) {
  const kls: number[] = [];
  const twin = new TwinJob({
    id: "twin",
    tenant: "acme",
    prompt: PROMPT,
    maxTokens: tokens,
    windowTokens,
    worn: wornOf(),
    onCompared: (kl) => kls.push(kl),
  });
  const writer = new Writer(wornOf(worn), tokens, twin);
  stage.engine.submit(writer);
  stage.engine.submit(twin);
  await writer.over;
  await twin.over;
  return { twin, writer, kls };
}

// With and without whole windows, one token alone, and a reply as long as it may be.
test.each([1, 5, 8, 21])("every one of %d tokens is compared on the same context, exactly", async (tokens) => {
  const { twin, writer, kls } = await twinned(persona, tokens);
  const plain = await unsteeredLogits(writer.reply);
  const expected = plain.map((logits, i) => klDivergence(writer.logits[i] as Float32Array, logits));
  expect(kls).toHaveLength(tokens);
  kls.forEach((kl, i) => {
    expect(kl).toBeCloseTo(expected[i] as number, 4);
  });
  const differences = plain.map((logits, i) => (writer.entropies[i] as number) - entropyOf(logits));
  const mean = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0) / tokens;
  expect(twin.figures()).toEqual({
    tokens,
    meanKl: expect.closeTo(mean(expected), 4),
    maxKl: expect.closeTo(Math.max(...expected), 4),
    meanEntropyDifference: expect.closeTo(mean(differences), 4),
  });
  // Else nothing is shown: the persona does something.
  expect(mean(expected)).toBeGreaterThan(0.01);
  expect(stage.failures).toEqual([]);
});

test("what an earlier prompt left is not read again, and the comparison is the same", async () => {
  const first = await twinned(persona, 9);
  const again = await twinned(persona, 9);
  expect(again.twin.figures()).toEqual(first.twin.figures());
  // Both of writer and twin, the second time.
  expect(stage.engine.prefixFigures().hits).toBe(2);
});

test("the twin of an unsteered reply finds no difference", async () => {
  const { twin } = await twinned(undefined, 12);
  expect(twin.figures()?.tokens).toBe(12);
  expect(twin.figures()?.maxKl).toBeLessThan(1e-4);
  expect(Math.abs(twin.figures()?.meanEntropyDifference ?? 1)).toBeLessThan(1e-4);
});

test("a twin gives its slot to whoever waits, and has compared what it has", async () => {
  const twin = new TwinJob({
    id: "twin",
    tenant: "acme",
    prompt: PROMPT,
    maxTokens: 33,
    windowTokens: 4,
    worn: wornOf(),
    onCompared: () => {},
  });
  const writer = new Writer(wornOf(persona), 33, twin);
  stage.engine.submit(writer);
  stage.engine.submit(twin);
  while (writer.reply.length < 12) await new Promise((resolve) => setImmediate(resolve));
  const other = new Writer(wornOf(), 30);
  stage.engine.submit(other);
  await Promise.all([writer.over, other.over, twin.over]);
  const compared = twin.figures()?.tokens ?? 0;
  expect(compared).toBeGreaterThan(0);
  expect(compared).toBeLessThan(33);
  expect(writer.reply).toHaveLength(33);
});

test("where no slot is free there is no twin, and the reply does not wait", async () => {
  const other = new Writer(wornOf(), 20);
  stage.engine.submit(other);
  const { twin, writer } = await twinned(persona, 5);
  expect(writer.reply).toHaveLength(5);
  expect(twin.figures()).toBeUndefined();
  await other.over;
});

test("what waits for a twin that never reads is bounded", () => {
  const twin = new TwinJob({
    id: "twin",
    tenant: "acme",
    prompt: PROMPT,
    maxTokens: 100,
    windowTokens: 4,
    worn: wornOf(),
    onCompared: () => {},
  });
  const hidden = Float32Array.of(1);
  for (let i = 0; i < 33; i++) twin.take({ id: i, hidden, entropy: 1 });
  expect(twin.follower).toMatchObject({ closed: true, available: PROMPT.length - 1 + 32 });
});

test("tokens are there to read in whole windows, until the reply ends", () => {
  const twin = new TwinJob({
    id: "twin",
    tenant: "acme",
    prompt: PROMPT,
    maxTokens: 8,
    windowTokens: 4,
    worn: wornOf(),
    onCompared: () => {},
  });
  const available: number[] = [];
  for (let i = 0; i < 6; i++) {
    twin.take({ id: 50 + i, hidden: Float32Array.of(1), entropy: 1 });
    available.push(twin.follower.available);
  }
  expect(available).toEqual([6, 6, 6, 10, 10, 10]);
  twin.close();
  expect(twin.follower).toMatchObject({ available: 12, closed: true });
  expect([...twin.prompt]).toEqual([...PROMPT, 50, 51, 52, 53, 54, 55, 0]);
  expect(twin.tokens).toBe(14);
});
