import type { ServiceError } from "@persona-mesh/service";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { type ReferenceModel, referenceModel } from "../../../../packages/model/src/testing/reference-model.ts";
import { DEFAULT_SERVING, type ServingPolicy } from "../personas/serving-policy.ts";
import type { Ending } from "../scheduler/index.ts";
import { Greedy, openEngine, run, type Stage } from "../testing/engine-stage.ts";
import { personaOf, rowAlong } from "../testing/personas.ts";
import type { EngineOptions } from "./engine.ts";
import type { ReadingJob } from "./engine-job.ts";

// The engine over the real runtime and a tiny model: what is watched is the order of things, and the numbers of each row.

let reference: ReferenceModel;
let resources: AsyncDisposableStack;

beforeEach(async () => {
  resources = new AsyncDisposableStack();
  reference = resources.use(await referenceModel("plain-tied"));
});

afterEach(() => resources.disposeAsync());

async function open(slots: number, options: Partial<EngineOptions> = {}, tableRows = 8): Promise<Stage> {
  return openEngine(reference.model, resources, { slots, tableRows, ...options });
}

test("jobs beside each other get the tokens that they get alone", async () => {
  const stage = await open(3);
  const prompts = [[1, 2, 3, 4, 5, 6], [7], [9, 8, 7, 6, 5, 4, 3, 2, 1]];
  const alone: number[][] = [];
  for (const prompt of prompts) {
    const job = new Greedy("alone", stage, { prompt, tokens: 10 });
    await run(stage, job);
    alone.push(job.reply);
  }
  const together = prompts.map((prompt, index) => new Greedy(`${index}`, stage, { prompt, tokens: 10 }));
  await run(stage, ...together);
  expect(together.map(({ reply }) => reply)).toEqual(alone);
});

test("a job that is cancelled in a step is not in the next one: its slot serves whoever waits", async () => {
  const stage = await open(1);
  const leaves = new Greedy("leaves", stage, {
    tokens: 20,
    onToken: (count) => {
      if (count === 3) stage.engine.cancel("leaves");
      return undefined;
    },
  });
  // A prompt of one chunk: its first step is its first token.
  const waits = new Greedy("waits", stage, { prompt: [1, 2], tokens: 1 });
  expect(await run(stage, leaves, waits)).toEqual([{ kind: "cancelled" }, { kind: "finished", reason: "maxTokens" }]);
  expect(stage.diary).toEqual(["leaves 1", "leaves 2", "leaves 3", "leaves cancelled", "waits 1", "waits finished"]);
});

test("a job that waits and is cancelled ends at once and never runs", async () => {
  const stage = await open(1);
  const running = new Greedy("running", stage, { tokens: 4 });
  const waiting = new Greedy("waiting", stage);
  stage.engine.submit(running);
  stage.engine.submit(waiting);
  stage.engine.cancel("waiting");
  expect(stage.diary).toEqual(["waiting cancelled"]);
  await running.over;
  expect(stage.diary.filter((line) => line.startsWith("waiting"))).toEqual(["waiting cancelled"]);
});

describe("failures", () => {
  const boom = new Error("boom");

  test("of one job's sampling are its own", async () => {
    const stage = await open(2);
    const fails = new Greedy("fails", stage, {
      tokens: 9,
      onToken: (count) => {
        if (count === 2) throw boom;
        return undefined;
      },
    });
    const goesOn = new Greedy("goes on", stage, { tokens: 6 });
    expect(await run(stage, fails, goesOn)).toEqual([
      { kind: "failed", error: boom },
      { kind: "finished", reason: "maxTokens" },
    ]);
    const alone = new Greedy("alone", stage, { tokens: 6 });
    await run(stage, alone);
    expect(goesOn.reply).toEqual(alone.reply);
    expect(stage.failures).toEqual([]);
  });

  test("of a whole step end the jobs in it with STEP_FAILED, and the next ones run", async () => {
    const stage = await open(2);
    let steps = 0;
    const breaks = new Greedy("breaks", stage, {
      tokens: 9,
      onStep: () => {
        if (++steps === 4) throw boom;
      },
    });
    const beside = new Greedy("beside", stage, { tokens: 30 });
    const failed = { kind: "failed", error: expect.objectContaining({ reason: "STEP_FAILED", cause: boom }) };
    expect(await run(stage, breaks, beside)).toEqual([failed, failed]);
    expect(stage.failures).toEqual([boom]);
    expect(await run(stage, new Greedy("next", stage))).toEqual([{ kind: "finished", reason: "maxTokens" }]);
  });

  test("of a job in hearing of its end are told, and stop nobody", async () => {
    const stage = await open(2);
    const deaf = new Greedy("deaf", stage, {
      tokens: 2,
      onEnded: () => {
        throw boom;
      },
    });
    const goesOn = new Greedy("goes on", stage, { tokens: 6 });
    await run(stage, deaf, goesOn);
    expect(stage.failures).toEqual([boom]);
    expect(goesOn.reply).toHaveLength(6);
  });

  test("of numbers: a row that overflows ends with alpha and layers, its neighbour and its slot's next job are as ever", async () => {
    const stage = await open(2);
    const { hidden } = reference.model.spec;
    const huge = personaOf("huge", new Map([0, 1].map((layer) => [layer, rowAlong(hidden, 3e38)])));
    const [overflows, beside] = [
      new Greedy("overflows", stage, { persona: huge }),
      new Greedy("beside", stage, { tokens: 8 }),
    ];
    const [ending] = await run(stage, overflows, beside);
    const metadata = { alpha: "0.5", layers: "0,1" };
    expect(ending).toEqual({
      kind: "failed",
      error: expect.objectContaining({ reason: "STEERING_OVERFLOW", metadata }),
    });
    expect(stage.table.figures().rowsHeld).toBe(0);
    const after = [new Greedy("after 1", stage, { tokens: 8 }), new Greedy("after 2", stage, { tokens: 8 })];
    await run(stage, ...after);
    for (const { reply } of after) expect(reply).toEqual(beside.reply);
  });
});

test("a runtime that fails in three steps in a row is broken: its requests fail, the others are sent to another worker", async () => {
  const stage = await open(1);
  expect(stage.engine.isFit).toBe(true);
  stage.runtime[Symbol.dispose]();
  const jobs = ["a", "b", "c", "d"].map((id) => new Greedy(id, stage));
  const endings = await run(stage, ...jobs);
  expect(endings.map(({ kind }) => kind)).toEqual(["failed", "failed", "failed", "drained"]);
  expect(await stage.engine.broken).toMatchObject({ name: "OnnxRuntimeError" });
  expect(stage.engine.isFit).toBe(false);
  expect(() => stage.engine.submit(new Greedy("late", stage))).toThrow(expect.objectContaining({ reason: "DRAINING" }));
  expect(stage.failures).toHaveLength(3);
});

test("steps that fail by a job's own code never make the runtime broken", async () => {
  const stage = await open(1);
  const bad = ["a", "b", "c", "d"].map(
    (id) =>
      new Greedy(id, stage, {
        onStep: () => {
          throw new Error("a defect");
        },
      }),
  );
  for (const { kind } of await run(stage, ...bad)) expect(kind).toBe("failed");
  expect(stage.engine.isFit).toBe(true);
  await run(stage, new Greedy("good", stage));
});

test("a chunk is cut short when its only request leaves, and its slot serves the next one as ever", async () => {
  const stage = await open(1, { chunkTokens: 16 });
  const prompt = Array.from({ length: 30 }, (_, i) => i % 7);
  const alone = new Greedy("alone", stage, { prompt, tokens: 6 });
  await run(stage, alone);
  for (let i = 0; i < 5; i++) {
    const leaves = new Greedy("leaves", stage, { prompt: prompt.toReversed(), tokens: 6 });
    const begun = new Promise<void>((resolve) => {
      leaves.beforeStep = resolve;
    });
    stage.engine.submit(leaves);
    await begun;
    // The chunk is about to be computed, or is being computed.
    stage.engine.cancel("leaves");
    expect(await leaves.over).toEqual({ kind: "cancelled" });
    const next = new Greedy("next", stage, { prompt, tokens: 6 });
    await run(stage, next);
    expect({ reply: next.reply, logits: next.logits }).toEqual({ reply: alone.reply, logits: alone.logits });
  }
  expect(stage.failures).toEqual([]);
});

test("a rewind computes the reply's keys and values anew and goes on with the tokens so far", async () => {
  const stage = await open(2);
  const prompt = [1, 2, 3, 4, 5, 6, 7];
  const plain = new Greedy("plain", stage, { prompt, tokens: 12 });
  const rewinding = new Greedy("rewinding", stage, {
    prompt,
    tokens: 12,
    onToken: (count) => {
      if (count === 5) return { kind: "rewind", from: 3 };
      return count === 9 ? { kind: "rewind", from: 0 } : undefined;
    },
  });
  await run(stage, plain, rewinding);
  expect(rewinding.reply).toEqual(plain.reply);
  // Several positions at once take other kernels than one: the last bits may differ, and no more.
  rewinding.logits.forEach((row, index) => {
    row.forEach((logit, i) => {
      expect(logit).toBeCloseTo(plain.logits[index]?.[i] as number, 4);
    });
  });
});

describe("admission", () => {
  const one = (length: number) =>
    personaOf(`of ${length}`, new Map([[0, rowAlong(reference.model.spec.hidden, length)]]));

  test("waits for rows of the table that running jobs hold", async () => {
    // Row 0 belongs to nobody: one is left.
    const stage = await open(2, {}, 2);
    const first = new Greedy("first", stage, { persona: one(1), tokens: 3 });
    const second = new Greedy("second", stage, { persona: one(2), tokens: 1 });
    await run(stage, first, second);
    expect(stage.diary).toEqual(["first 1", "first 2", "first 3", "first finished", "second 1", "second finished"]);
    expect(stage.table.figures()).toMatchObject({ rowsHeld: 0, evictions: 1 });
  });

  test("shares them between jobs of one persona", async () => {
    const stage = await open(2, {}, 2);
    const jobs = ["a", "b"].map((id) => new Greedy(id, stage, { persona: one(1), tokens: 5 }));
    await run(stage, ...jobs);
    expect(stage.table.figures()).toMatchObject({ hits: 1, misses: 1, rowsHeld: 0 });
  });

  test("refuses what is more than may wait", async () => {
    const stage = await open(1, { queueCapacity: 1 });
    const jobs = [new Greedy("running", stage, { tokens: 10 }), new Greedy("waiting", stage, { tokens: 1 })];
    for (const job of jobs) stage.engine.submit(job);
    expect(() => stage.engine.submit(new Greedy("over", stage))).toThrow(
      expect.objectContaining({ reason: "QUEUE_FULL", metadata: { whose: "everybody" } }),
    );
    await Promise.all(jobs.map(({ over }) => over));
    await run(stage, new Greedy("later", stage));
  });
});

test("a tenant's limits are what its policy says at the moment: running, waiting, tokens per minute", async () => {
  let serving: ServingPolicy = { ...DEFAULT_SERVING, maxRunning: 1, maxWaiting: 1 };
  const stage = await open(2, { serving: () => serving });
  const [first, second] = ["first", "second"].map((id) => new Greedy(id, stage, { tokens: 3 }));
  const both = run(stage, first as Greedy, second as Greedy);
  await both;
  expect(stage.diary.indexOf("first finished")).toBeLessThan(stage.diary.indexOf("second 1"));
  serving = { ...DEFAULT_SERVING, tokensPerMinute: 60 };
  // Six tokens of prompt.
  await run(stage, new Greedy("cheap", stage, { tokens: 1 }));
  const dear = new Greedy("dear", stage, { prompt: new Array(24).fill(1), tokens: 1 });
  const again = () => new Greedy("again", stage, { prompt: new Array(40).fill(1), tokens: 1 });
  await run(stage, dear);
  let refusal: unknown;
  try {
    stage.engine.submit(again());
  } catch (error) {
    refusal = error;
  }
  expect(refusal).toMatchObject({ reason: "RATE_LIMITED" });
  // 60 − 6 − 24 are left of the 40 that it takes.
  const { retryDelayMs = 0 } = refusal as ServiceError;
  expect(retryDelayMs).toBeGreaterThan(9000);
  expect(retryDelayMs).toBeLessThanOrEqual(10_000);
  serving = DEFAULT_SERVING;
  await run(stage, again());
});

test("a tenant that floods takes every slot while it is alone, and then takes turns with who comes", async () => {
  const stage = await open(2, { queueCapacity: 20 });
  const greedy = Array.from({ length: 8 }, (_, i) => new Greedy(`g${i}`, stage, { tenant: "greedy", tokens: 2 }));
  const polite = Array.from({ length: 3 }, (_, i) => new Greedy(`p${i}`, stage, { tenant: "polite", tokens: 2 }));
  const { promise: begun, resolve } = Promise.withResolvers<void>();
  (greedy[1] as Greedy).beforeStep = resolve;
  const all = run(stage, ...greedy);
  await begun;
  await Promise.all([run(stage, ...polite), all]);
  const begins = stage.diary.filter((line) => line.endsWith(" 1")).map((line) => line.slice(0, 2));
  expect(begins.slice(0, 2)).toEqual(["g0", "g1"]);
  // Two were charged to the greedy one before: the next slots are the polite one's until it has had as much.
  expect(begins.indexOf("p2")).toBeLessThanOrEqual(6);
  expect(begins.filter((id) => id.startsWith("g"))).toEqual(greedy.map(({ id }) => id));
});

test("stop ends everybody once and waits for the step in flight", async () => {
  const stage = await open(1);
  const { promise: begun, resolve } = Promise.withResolvers<void>();
  const running = new Greedy("running", stage, {
    tokens: 30,
    onToken: () => {
      resolve();
      return undefined;
    },
  });
  const waiting = new Greedy("waiting", stage);
  stage.engine.submit(running);
  stage.engine.submit(waiting);
  await begun;
  await stage.engine.stop();
  expect(await Promise.all([running.over, waiting.over])).toEqual([{ kind: "drained" }, { kind: "drained" }]);
  expect(stage.diary.filter((line) => line.endsWith("drained"))).toHaveLength(2);
  const written = stage.diary.length;
  await new Promise((resolve) => setImmediate(resolve));
  expect(stage.diary).toHaveLength(written);
  expect(stage.engine.figures()).toMatchObject({ running: 0, waiting: 0 });
  expect(() => stage.engine.submit(new Greedy("late", stage))).toThrow(expect.objectContaining({ reason: "DRAINING" }));
});

test("a reading job gets every chunk in order, with the positions that it asked for", async () => {
  const stage = await open(1);
  const { hidden } = reference.model.spec;
  const chunks: string[] = [];
  const { promise: over, resolve } = Promise.withResolvers<Ending>();
  const job: ReadingJob = {
    kind: "prefill",
    tenant: "acme",
    id: "reads",
    prompt: Int32Array.from([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]),
    tokens: 10,
    // The phase changes here: chunks end at it, and at multiples of four.
    promptTokens: 6,
    worn: stage.worn(),
    residuals: false,
    select: ({ start, end }) => (start === 4 ? [0, 1] : end === 10 ? [] : [end - start - 1]),
    read: async ({ step, batch }) => {
      chunks.push(`${step.start}-${step.end}: ${batch.hidden.length / hidden}${step.isLast ? " last" : ""}`);
      return { kind: "continue" };
    },
    ended: resolve,
  };
  stage.engine.submit(job);
  expect(await over).toEqual({ kind: "finished", reason: "prefilled" });
  expect(chunks).toEqual(["0-4: 1", "4-6: 2", "6-8: 1", "8-10: 1 last"]);
});
