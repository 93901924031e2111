import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { importCheckpoint, loadPackage } from "@persona-mesh/model";
import { ModelRuntime, type RunnableModel } from "@persona-mesh/model/runtime";
import { afterAll, beforeAll, expect, test } from "vitest";
import { Greedy, openEngine, run } from "../testing/engine-stage.ts";
import { measureChunkSize } from "./chunk-size.ts";

const STARTER = new URL("../../../../models/starter", import.meta.url).pathname;

let resources: AsyncDisposableStack;
let starter: RunnableModel;

beforeAll(async () => {
  resources = new AsyncDisposableStack();
  const folder = await mkdtemp(join(tmpdir(), "persona-chunk-"));
  resources.defer(() => rm(folder, { recursive: true, force: true }));
  await importCheckpoint(STARTER, join(folder, "starter"), {});
  const model = await loadPackage(join(folder, "starter"));
  starter = { ...model, spec: model.manifest.spec, weights: model.manifest.weights };
}, 30_000);

afterAll(() => resources.disposeAsync());

async function runtimeOf(contextTokens: number): Promise<ModelRuntime> {
  const table = new Float32Array(starter.spec.hidden);
  return resources.use(await ModelRuntime.open(starter, { slots: 1, contextTokens, table, threads: 1 }));
}

test("the size is the largest that is computed in time, from 16 to 512 or the context", async () => {
  const runtime = await runtimeOf(300);
  expect(await measureChunkSize(runtime, Number.POSITIVE_INFINITY)).toMatchObject({ chunkTokens: 256 });
  const slow = await measureChunkSize(runtime, 0);
  expect(slow).toMatchObject({ chunkTokens: 16 });
  expect(slow.millis).toBeGreaterThan(0);
  expect(await measureChunkSize(await runtimeOf(9), 100)).toMatchObject({ chunkTokens: 16 });
});

test("what a request is answered does not depend on it, to the bit", async () => {
  const answers = new Map<number, { reply: number[]; logits: Float32Array[] }[]>();
  for (const chunkTokens of [16, 64, 512]) {
    const stage = await openEngine(starter, resources, { slots: 2, contextTokens: 600, chunkTokens });
    // One more than a whole number of chunks, of each size, among them.
    const jobs = [10, 17, 65, 100, 513].map((length) => {
      const prompt = Array.from({ length }, (_, i) => (37 * i + 11) % starter.spec.vocabulary);
      return new Greedy(`of ${length}`, stage, { prompt, tokens: 6 });
    });
    await run(stage, ...jobs);
    answers.set(
      chunkTokens,
      jobs.map(({ reply, logits }) => ({ reply, logits })),
    );
  }
  expect(answers.get(16)).toEqual(answers.get(64));
  expect(answers.get(16)).toEqual(answers.get(512));
}, 30_000);
