import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { importCheckpoint, loadPackage } from "@persona-mesh/model";
import type { RunnableModel } from "@persona-mesh/model/runtime";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { referenceModel } from "../../../../packages/model/src/testing/reference-model.ts";
import type { EngineJob } from "../engine/engine-job.ts";
import { UNSTEERED } from "../engine/row-steering.ts";
import type { LoadedPersona } from "../personas/loaded-persona.ts";
import type { PrefillStep } from "../scheduler/index.ts";
import { Greedy, openEngine, run, type Script, type Stage } from "../testing/engine-stage.ts";
import { personaOf } from "../testing/personas.ts";
import { PrefixReuse } from "./prefix-reuse.ts";

// Real engines, one that keeps prefixes and one that does not: what they say must be the same to the bit.

const STARTER = new URL("../../../../models/starter", import.meta.url).pathname;
const PLENTY = 1 << 20;

let resources: AsyncDisposableStack;
let grouped: RunnableModel;
let starter: RunnableModel;

beforeAll(async () => {
  resources = new AsyncDisposableStack();
  // A random Llama whose heads share keys and values.
  grouped = resources.use(await referenceModel("grouped-untied")).model;
  const folder = await mkdtemp(join(tmpdir(), "persona-prefix-"));
  resources.defer(() => rm(folder, { recursive: true, force: true }));
  await importCheckpoint(STARTER, join(folder, "starter"), {});
  const model = await loadPackage(join(folder, "starter"));
  starter = { ...model, spec: model.manifest.spec, weights: model.manifest.weights };
}, 30_000);

afterAll(() => resources.disposeAsync());

/** One more of everything than a test needs, with chunks of four. */
async function open(prefixBytes: number, changes: { follow?: boolean; slots?: number } = {}): Promise<Stage> {
  return openEngine(grouped, resources, { slots: 3, tableRows: 16, prefixBytes, ...changes });
}

/** Steers every layer, each along another axis. */
function loud(revision: string, axis: number, changes: Partial<LoadedPersona> = {}): LoadedPersona {
  const { layers, hidden } = grouped.spec;
  const row = (layer: number) =>
    Float32Array.from({ length: hidden }, (_, i) => (i === (axis + layer) % hidden ? 4 : 0));
  return personaOf(revision, new Map(Array.from({ length: layers }, (_, layer) => [layer, row(layer)])), changes);
}

const said = ({ reply, logits }: Greedy) => ({ reply, logits: logits.map((row) => [...row]) });

/** Jobs one after another; what each of them found there. */
async function inTurn(stage: Stage, ...scripts: readonly Script[]): Promise<Greedy[]> {
  const jobs = scripts.map((script, index) => new Greedy(`${index}`, stage, script));
  for (const job of jobs) await run(stage, job);
  return jobs;
}

const cached = (jobs: readonly Greedy[]) => jobs.map(({ cachedTokens }) => cachedTokens);

const prompt = Array.from({ length: 14 }, (_, i) => (7 * i) % 61);
const X = () => loud("x", 1);

describe("what is found", () => {
  test("whole chunks of the prompt, and never its last token", async () => {
    const stage = await open(PLENTY);
    const jobs = await inTurn(
      stage,
      { prompt },
      { prompt },
      { prompt: prompt.slice(0, 12) },
      // One token alone would be computed in another way.
      { prompt: prompt.slice(0, 13) },
      { prompt: prompt.slice(0, 3) },
      { prompt: [...prompt.slice(0, 6), 60, ...prompt.slice(7)] },
    );
    expect(cached(jobs)).toEqual([0, 12, 8, 8, 0, 4]);
    expect(stage.engine.prefixFigures()).toMatchObject({
      lookups: 6,
      hits: 4,
      tokensSaved: 32,
      chunks: 5,
      evictions: 0,
    });
  });

  test("by tenant, by persona, by gain and mode: nothing that acts differently, nothing of anybody else", async () => {
    const stage = await open(PLENTY);
    const jobs = await inTurn(
      stage,
      { prompt },
      { prompt, tenant: "globex" },
      { prompt, persona: X() },
      { prompt, persona: loud("y", 5) },
      { prompt, persona: loud("x renormed", 1, { mode: "ADD_RENORM" }) },
      { prompt, persona: X() },
      { prompt, tenant: "globex", persona: X() },
    );
    expect(cached(jobs)).toEqual([0, 0, 0, 0, 0, 12, 0]);
  });

  test("what is shared where a persona does not act on prompts", async () => {
    const stage = await open(PLENTY);
    const jobs = await inTurn(
      stage,
      { prompt, persona: loud("g", 1, { positions: "GENERATED" }) },
      { prompt },
      { prompt, persona: loud("h", 5, { positions: "GENERATED" }) },
      { prompt, persona: loud("p", 1, { positions: "PROMPT" }) },
    );
    expect(cached(jobs)).toEqual([0, 12, 12, 0]);
  });

  test("nothing for a job that reads every position, and nothing of it is kept", async () => {
    const stage = await open(PLENTY);
    const jobs = await inTurn(stage, { prompt, reusePrefix: false }, { prompt }, { prompt, reusePrefix: false });
    expect(cached(jobs)).toEqual([0, 0, 0]);
    expect(stage.engine.prefixFigures()).toMatchObject({ lookups: 1, chunks: 3 });
  });

  test("what a request that runs beside has computed by then", async () => {
    const stage = await open(PLENTY);
    const jobs = ["a", "b"].map((id) => new Greedy(id, stage, { prompt }));
    await run(stage, ...jobs);
    expect(cached(jobs)).toEqual([0, 12]);
    expect(said(jobs[1] as Greedy)).toEqual(said(jobs[0] as Greedy));
  });

  test("a little at a time, so that running streams do not wait for a long copy", () => {
    const cache = { cachedElements: 2, readCache: () => {}, writeCache: () => {} };
    const chunkBytes = 4 * 2 * 4;
    const prefixes = new PrefixReuse(cache, {
      chunkTokens: 4,
      bytes: 10 * chunkBytes,
      mostCopiedBytes: 2 * chunkBytes,
    });
    const worn = { steering: UNSTEERED };
    const found: number[] = [];
    const job = {
      kind: "generate",
      tenant: "acme",
      prompt: new Int32Array(22),
      tokens: 22,
      worn,
      prefixFound: ({ cachedTokens }: { cachedTokens: number }) => found.push(cachedTokens),
    } as unknown as EngineJob;
    const step = (start: number): PrefillStep<EngineJob> => {
      const end = start + 4;
      return { kind: "prefill", slot: 0, job, start, end, phase: "prompt", isLast: false, repeats: false };
    };
    expect(prefixes.fill(step(0))).toBe(0);
    for (const start of [0, 4, 8, 12, 16]) prefixes.keep(step(start));
    expect([0, 8, 16].map((start) => prefixes.fill(step(start)))).toEqual([8, 16, 20]);
    expect(found).toEqual([8, 16, 20]);
  });

  test("nothing where there is no memory for a chunk", async () => {
    const stage = await open(1000);
    expect(cached(await inTurn(stage, { prompt }, { prompt }))).toEqual([0, 0]);
    expect(stage.engine.prefixFigures()).toMatchObject({ capacityBytes: 0, bytes: 0, lookups: 0 });
  });
});

test("memory is bounded: ends of chains make room first, the chain that grows never for itself", async () => {
  const { layers, kvHeads, headDim } = grouped.spec;
  const chunk = 4 * 2 * layers * kvHeads * headDim * 4;
  const stage = await open(4 * chunk + 100);
  const other = prompt.map((id) => 60 - id);
  const jobs = await inTurn(stage, { prompt }, { prompt: other }, { prompt }, { prompt: other });
  // Three chunks of the first; the other's second and third took the place of the first one's end.
  expect(stage.engine.prefixFigures()).toMatchObject({ capacityBytes: 4 * chunk, bytes: 4 * chunk });
  expect(cached(jobs)[2]).toBeGreaterThan(0);
  expect(cached(jobs)[2]).toBeLessThan(12);
  const long = Array.from({ length: 30 }, (_, i) => (11 * i + 3) % 61);
  expect(cached(await inTurn(stage, { prompt: long }, { prompt: long }))).toEqual([0, 16]);
  expect(stage.engine.prefixFigures().bytes).toBe(4 * chunk);
});

test("with and without hits: the same tokens from the same logits, whoever runs beside", async () => {
  const personas = [
    undefined,
    X(),
    loud("y", 5),
    loud("g", 1, { positions: "GENERATED" }),
    loud("p", 9, { positions: "PROMPT" }),
    loud("r", 3, { mode: "ADD_RENORM" }),
  ];
  const [keeping, plain] = [await open(PLENTY), await open(0)];
  const script = fc.record({
    // Prompts that share beginnings of all lengths.
    shared: fc.nat(26),
    own: fc.array(fc.nat(60), { minLength: 1, maxLength: 8 }),
    persona: fc.nat(personas.length - 1),
    tokens: fc.integer({ min: 1, max: 5 }),
    tenant: fc.constantFrom("acme", "globex"),
  });
  const long = Array.from({ length: 26 }, (_, i) => (13 * i + 5) % 61);
  let hits = 0;
  await fc.assert(
    fc.asyncProperty(fc.array(script, { minLength: 1, maxLength: 6 }), async (scripts) => {
      const jobsOf = (stage: Stage) =>
        scripts.map(({ shared, own, persona, tokens, tenant }, index) => {
          const worn = personas[persona];
          const all = { prompt: [...long.slice(0, shared), ...own], tokens, tenant };
          return new Greedy(`${index}`, stage, worn === undefined ? all : { ...all, persona: worn });
        });
      const [with_, without] = [jobsOf(keeping), jobsOf(plain)];
      await Promise.all([run(keeping, ...with_), run(plain, ...without)]);
      expect(with_.map(said)).toEqual(without.map(said));
      hits += with_.filter(({ cachedTokens }) => cachedTokens > 0).length;
      expect(cached(without).every((found) => found === 0)).toBe(true);
    }),
    { numRuns: 40 },
  );
  expect(hits).toBeGreaterThan(20);
}, 30_000);

test("a persona that changes while a prompt is read: each chunk is kept under what acted on it", async () => {
  const [x, y] = [X(), loud("y", 5)];
  let worn = x;
  const stage = await open(PLENTY, { follow: true });
  let steps = 0;
  const changing: Greedy = new Greedy("changing", stage, {
    prompt,
    persona: () => worn,
    onStep: () => {
      // Before the second of four chunks.
      if (++steps === 2) {
        worn = y;
        changing.worn.refresh();
      }
    },
  });
  await run(stage, changing);
  const [again] = await inTurn(stage, { prompt, persona: x });
  expect(again?.cachedTokens).toBe(4);
  const [pure] = await inTurn(stage, { prompt, persona: y });
  expect(pure?.cachedTokens).toBe(0);
  const plain = await open(0);
  const [first, second] = await inTurn(plain, { prompt, persona: x }, { prompt, persona: y });
  expect([again, pure].map((job) => said(job as Greedy))).toEqual([first, second].map((job) => said(job as Greedy)));
  expect(said(changing)).not.toEqual(said(first as Greedy));
});

test("a persona that changes at the first token: the last chunk is kept under what acted on it", async () => {
  const [x, y] = [X(), loud("y", 5)];
  let worn = x;
  const stage = await open(PLENTY, { follow: true });
  const whole = prompt.slice(0, 8);
  const changing: Greedy = new Greedy("changing", stage, {
    prompt: whole,
    persona: () => worn,
    onToken: () => {
      worn = y;
      changing.worn.refresh();
      return undefined;
    },
  });
  await run(stage, changing);
  const longer = [...whole, 1, 2];
  expect(cached(await inTurn(stage, { prompt: longer, persona: y }, { prompt: longer, persona: x }))).toEqual([0, 8]);
});

test("on the starter model, with chunks of sixteen: the same tokens from the same logits", async () => {
  const options = { slots: 2, chunkTokens: 16, contextTokens: 128 };
  const keeping = await openEngine(starter, resources, { ...options, prefixBytes: 64 << 20 });
  const plain = await openEngine(starter, resources, options);
  const words = Array.from({ length: 70 }, (_, i) => (37 * i + 11) % starter.spec.vocabulary);
  const scripts = [words, words.slice(0, 50), [...words.slice(0, 40), 5, 6, 7], words].map((ids) => ({
    prompt: ids,
    tokens: 12,
  }));
  const with_ = await inTurn(keeping, ...scripts);
  expect(cached(with_)).toEqual([0, 48, 32, 64]);
  expect(with_.map(said)).toEqual((await inTurn(plain, ...scripts)).map(said));
}, 30_000);
