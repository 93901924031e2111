import { afterEach, describe, expect, it } from "vitest";
import { FLOAT32, HEAD } from "../graph/index.ts";
import { ModelRuntime, type ModelRuntimeOptions } from "../runtime/index.ts";
import { type ReferenceOptions, referenceModel } from "../testing/reference-model.ts";
import { CheckFailure } from "./check.ts";
import { steeringSelfTest } from "./steering-self-test.ts";

const resources: (Disposable | AsyncDisposable)[] = [];
afterEach(async () => {
  for (const resource of resources.splice(0).reverse()) {
    if (Symbol.asyncDispose in resource) await resource[Symbol.asyncDispose]();
    else resource[Symbol.dispose]();
  }
});

interface Opened {
  readonly runtime: ModelRuntime;
  readonly table: Float32Array;
}

async function open(
  name: string,
  options: ReferenceOptions & Partial<ModelRuntimeOptions> & { readonly rows?: number } = {},
): Promise<Opened> {
  const { rows = 8, slots = 2 } = options;
  const reference = await referenceModel(name, options);
  resources.push(reference);
  const table = new Float32Array(rows * reference.model.spec.hidden);
  const runtime = await ModelRuntime.open(reference.model, { slots, contextTokens: 16, table, threads: 1 });
  resources.push(runtime);
  return { runtime, table };
}

const test = ({ runtime, table }: Opened) => steeringSelfTest(runtime, table, FLOAT32);

describe("a runtime that steers", () => {
  // Norms that add one to their weights, a cap on the logits, heads of their own, blocks of another order.
  it.each(["plain-tied", "gemma2", "gemma3", "phi3-partial-window", "grouped-untied"])(
    "of %s shows it, in its first, middle and last layer",
    async (name) => {
      const opened = await open(name);
      const { layers } = opened.runtime.spec;
      const shown = await test(opened);
      expect(shown?.layers.at(-1)).toBe(layers - 1);
      expect(shown?.layers).toHaveLength(Math.min(3, layers));
      expect(shown?.figures["logitChange"]).toBeGreaterThan(1e-3);
      expect(shown?.figures["logitError"]).toBeLessThan(1e-5);
    },
  );

  it("leaves its table empty", async () => {
    const opened = await open("plain-tied");
    await test(opened);
    expect(opened.table.every((value) => value === 0)).toBe(true);
  });

  it("shows it in as many layers as its table has rows, the last one first", async () => {
    const opened = await open("plain-tied", { rows: 2, slots: 1 });
    expect((await test(opened))?.layers).toEqual([opened.runtime.spec.layers - 1]);
  });

  it("has nothing to show without rows", async () => {
    expect(await test(await open("plain-tied", { rows: 1 }))).toBeUndefined();
  });
});

describe("a runtime that does not steer as it should is caught", () => {
  const failure = (opened: Opened) => test(opened).catch((error: unknown) => error);

  it("with a serving graph that ignores the rows", async () => {
    const opened = await open("plain-tied", { steering: "off" });
    expect(await failure(opened)).toMatchObject({ name: "CheckFailure", message: expect.stringContaining(`"body"`) });
  });

  it("with a table that it does not read, and leaves that one empty too", async () => {
    const { runtime } = await open("plain-tied");
    const other = new Float32Array(8 * runtime.spec.hidden);
    const error = await failure({ runtime, table: other });
    expect(error).toBeInstanceOf(CheckFailure);
    expect(error).toMatchObject({ message: expect.stringMatching(/must move element 0 of the residual by/) });
    expect(other.every((value) => value === 0)).toBe(true);
  });

  it("with a head whose logits do not follow the state", async () => {
    const opened = await open("plain-tied");
    const { runtime } = opened;
    const headBatch = runtime.headBatch.bind(runtime);
    // The predicted logits are asked for first. From then on, the head's weights are others.
    let calls = 0;
    runtime.headBatch = (role, rows) => {
      const batch = headBatch(role, rows);
      if (role !== "head-logits" || ++calls !== 2) return batch;
      const floats = batch.floats.bind(batch);
      const changed = (name: string) => floats(name).map((value, at) => (at % 7 === 0 ? value * 1.1 : value));
      batch.floats = (name) => (name === HEAD.logits ? changed(name) : floats(name)) as never;
      return batch;
    };
    expect(await failure(opened)).toMatchObject({ message: expect.stringContaining("must change the logits by") });
  });

  it("with a decode step that leaves its steered row as it is, and with one that reaches the row beside it", async () => {
    const frozen = await open("plain-tied");
    const decodeBatch = frozen.runtime.decodeBatch.bind(frozen.runtime);
    frozen.runtime.decodeBatch = (count) => {
      const batch = decodeBatch(count);
      const run = batch.run.bind(batch);
      batch.run = (signal) => {
        batch.rows.fill(0);
        return run(signal);
      };
      return batch;
    };
    expect(await failure(frozen)).toMatchObject({ message: "a decode step does not steer" });
    const leaking = await open("plain-tied");
    const leaky = leaking.runtime.decodeBatch.bind(leaking.runtime);
    leaking.runtime.decodeBatch = (count) => {
      const batch = leaky(count);
      const run = batch.run.bind(batch);
      batch.run = (signal) => {
        batch.rows.copyWithin(0, batch.rows.length / 2);
        batch.gain[0] = batch.gain[1] as number;
        return run(signal);
      };
      return batch;
    };
    expect(await failure(leaking)).toMatchObject({ message: "a steered row changes the unsteered one beside it" });
  });
});
