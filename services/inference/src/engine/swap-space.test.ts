import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { type ReferenceModel, referenceModel } from "../../../../packages/model/src/testing/reference-model.ts";
import type { LoadedPersona } from "../personas/loaded-persona.ts";
import { Greedy, openEngine, run, type Stage } from "../testing/engine-stage.ts";
import { personaOf } from "../testing/personas.ts";
import { SWAP_BLOCK_TOKENS } from "./swap-space.ts";

// A real engine: what a reply says must be the same to the bit, however often it gave its slot up.

let resources: AsyncDisposableStack;
let reference: ReferenceModel;

beforeEach(async () => {
  resources = new AsyncDisposableStack();
  reference = resources.use(await referenceModel("grouped-untied"));
});

afterEach(() => resources.disposeAsync());

const PLENTY = 1 << 22;

async function open(slots: number, swapBytes: number, tableRows = 32): Promise<Stage> {
  return openEngine(reference.model, resources, { slots, tableRows, swapBytes });
}

function loud(revision: string, axis: number): LoadedPersona {
  const { layers, hidden } = reference.model.spec;
  const row = (layer: number) =>
    Float32Array.from({ length: hidden }, (_, i) => (i === (axis + layer) % hidden ? 4 : 0));
  return personaOf(revision, new Map(Array.from({ length: layers }, (_, layer) => [layer, row(layer)])));
}

/** A tenant that is charged more than it can have saved up: what comes beside it may take its slots. */
const GREEDY = { tenant: "greedy", replyTokens: 10_000 };

const said = ({ reply, logits }: Greedy) => ({ reply, logits: logits.map((row) => [...row]) });

const prompt = (seed: number, length: number) => Array.from({ length }, (_, i) => (7 * i + seed) % 61);

/** Called at a certain token of a job. */
const at = (token: number, act: () => void) => (count: number) => {
  if (count === token) act();
  return undefined;
};

describe.each([1, 2])("%d slots", (slots) => {
  test("a reply that gave its slot up says what it says alone, steered or not", async () => {
    const scripts = [
      { prompt: prompt(1, 11), tokens: 20, ...GREEDY },
      { prompt: prompt(2, 6), tokens: 20, ...GREEDY, persona: loud("a", 3) },
      { prompt: prompt(3, 9), tokens: 5, tenant: "polite", persona: loud("b", 9) },
      { prompt: prompt(4, 2), tokens: 5, tenant: "polite" },
    ];
    const alone = await open(slots, 0);
    const expected = scripts.map((script, index) => new Greedy(`${index}`, alone, script));
    for (const job of expected) await run(alone, job);

    const stage = await open(slots, PLENTY);
    const late: Greedy[] = [];
    const come = (index: number) => () => {
      const job = new Greedy(`${index}`, stage, scripts[index]);
      late.push(job);
      stage.engine.submit(job);
    };
    const first = new Greedy("0", stage, { ...scripts[0], onToken: at(7, come(2)) });
    const second = new Greedy("1", stage, { ...scripts[1], onToken: at(9, come(3)) });
    await run(stage, first, second);
    await Promise.all(late.map(({ over }) => over));
    expect([first, second, ...late].map(said)).toEqual(expected.map(said));
    expect(stage.engine.swapFigures()).toMatchObject({ preemptions: 2, bytes: 0 });
    expect(stage.table.figures().heldPersonas).toBe(0);
    // They were let in before a reply of the tenant that had had more than its share was over.
    expect(stage.diary.indexOf("2 finished")).toBeLessThan(stage.diary.indexOf("0 finished"));
  });
});

test("in the middle of its prompt too, and more than once", async () => {
  const alone = await open(1, 0);
  const script = { prompt: prompt(5, 30), tokens: 4, ...GREEDY };
  const expected = new Greedy("long", alone, script);
  await run(alone, expected);

  const stage = await open(1, PLENTY);
  const polite: Greedy[] = [];
  let steps = 0;
  const long = new Greedy("long", stage, {
    ...script,
    onStep: () => {
      steps++;
      if (steps !== 2 && steps !== 4) return;
      const job = new Greedy(`polite ${steps}`, stage, { prompt: [1, 2], tokens: 1, tenant: "polite" });
      polite.push(job);
      stage.engine.submit(job);
    },
  });
  await run(stage, long);
  expect(said(long)).toEqual(said(expected));
  expect(polite).toHaveLength(2);
  expect(stage.engine.swapFigures().preemptions).toBe(2);
  expect(stage.diary.slice(0, 4)).toEqual(["polite 2 1", "polite 2 finished", "polite 4 1", "polite 4 finished"]);
});

test("nothing is taken from a reply where there is no memory for it, and of memory no more than was given", async () => {
  const block = SWAP_BLOCK_TOKENS * 4 * (await open(1, 0)).runtime.cachedElements;
  for (const [swapBytes, preemptions] of [
    [block - 1, 0],
    [block, 1],
  ] as const) {
    const stage = await open(1, swapBytes);
    const polite = new Greedy("polite", stage, { tokens: 1, tenant: "polite" });
    const greedy = new Greedy("greedy", stage, {
      tokens: 6,
      ...GREEDY,
      onToken: at(2, () => stage.engine.submit(polite)),
    });
    await run(stage, greedy);
    await polite.over;
    expect(stage.engine.swapFigures()).toEqual({
      bytes: 0,
      capacityBytes: preemptions * block,
      preemptions,
    });
  }
});

test("one that waits to go on can be cancelled, and gives its memory back", async () => {
  const stage = await open(1, PLENTY);
  const polite = new Greedy("polite", stage, {
    tokens: 3,
    tenant: "polite",
    onToken: at(2, () => {
      expect(stage.engine.figures()).toMatchObject({ running: 1, preempted: 1, waiting: 0 });
      expect(stage.engine.swapFigures().bytes).toBeGreaterThan(0);
      stage.engine.cancel("greedy");
      expect(stage.engine.swapFigures().bytes).toBe(0);
    }),
  });
  const greedy = new Greedy("greedy", stage, {
    tokens: 9,
    ...GREEDY,
    onToken: at(2, () => stage.engine.submit(polite)),
  });
  expect(await run(stage, greedy)).toEqual([{ kind: "cancelled" }]);
  await polite.over;
  expect(stage.engine.figures()).toMatchObject({ running: 0, preempted: 0 });
});

test("one that waits to go on is sent away when the engine stops", async () => {
  const stage = await open(1, PLENTY);
  const polite = new Greedy("polite", stage, {
    tokens: 3,
    tenant: "polite",
    onToken: at(2, () => void stage.engine.stop()),
  });
  const greedy = new Greedy("greedy", stage, {
    tokens: 9,
    ...GREEDY,
    onToken: at(2, () => stage.engine.submit(polite)),
  });
  expect(await run(stage, greedy)).toEqual([{ kind: "drained" }]);
});

test("rows of the steering table are others' while a reply waits to go on", async () => {
  const { layers } = reference.model.spec;
  const stage = await open(1, PLENTY, layers + 1);
  const polite = new Greedy("polite", stage, { tokens: 2, tenant: "polite", persona: loud("b", 9) });
  const greedy = new Greedy("greedy", stage, {
    tokens: 5,
    ...GREEDY,
    persona: loud("a", 3),
    onToken: at(2, () => stage.engine.submit(polite)),
  });
  await run(stage, greedy);
  expect(stage.diary.indexOf("polite finished")).toBeLessThan(stage.diary.indexOf("greedy finished"));
  expect(stage.engine.swapFigures().preemptions).toBe(1);
});
