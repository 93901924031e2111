import { join } from "node:path";
import { importCheckpoint } from "@persona-mesh/model";
import { FinishReason } from "@persona-mesh/protocol";
import { expect, test } from "vitest";
import { failureOf } from "../support/failure.ts";
import { STARTER } from "../support/starter-package.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { openTestWorker } from "../support/test-worker.ts";
import { spawnWorker } from "../support/worker-process.ts";

const CONTEXT = 64;

test("a worker serves the context that it was told, and no more", async () => {
  await using worker = new AsyncDisposableStack();
  const mesh = await openTestWorker({ context: CONTEXT, slots: 2 });
  worker.defer(() => mesh.close());
  const client = await mesh.client({ roles: ["operator", "viewer"] });
  const { layers, hiddenSize, contextTokens } = await client.getModel();
  expect(contextTokens).toBe(CONTEXT);

  const ids = (count: number) => ({ input: { case: "tokenIds" as const, value: { ids: new Array(count).fill(5) } } });
  expect(await failureOf(client.generateText({ prompt: ids(CONTEXT) }))).toMatchObject({
    reason: "PROMPT_TOO_LONG",
    metadata: { tokens: String(CONTEXT), contextTokens: String(CONTEXT) },
  });
  const reply = await client.generateText({ prompt: ids(CONTEXT - 4), ignoreEos: true });
  expect(reply).toMatchObject({ finished: { reason: FinishReason.CONTEXT, completionTokens: 4 } });
  const text = { input: { case: "text" as const, value: "where ".repeat(200_000) } };
  expect(await failureOf(client.generateText({ prompt: text }))).toMatchObject({
    reason: "PROMPT_TOO_LONG",
    metadata: { contextTokens: String(CONTEXT) },
  });

  const { spec } = mesh.running.worker.model.manifest;
  const loaded = mesh.log().find(({ msg }) => msg === "model loaded");
  const cacheBytes = 2 * 2 * layers * spec.kvHeads * spec.headDim * CONTEXT * 4;
  expect(loaded).toMatchObject({ contextTokens: CONTEXT, cacheBytes });
  const planned = mesh.log().find(({ msg }) => String(msg).startsWith("memory needed"));
  expect(planned).toMatchObject({ slots: 2, contextTokens: CONTEXT, cacheBytes, tableBytes: 1024 * hiddenSize * 4 });
});

test("a context over the model's ends the start with 2 and says what the model has", async () => {
  const models = await temporaryFolder();
  await importCheckpoint(STARTER, join(models, "desk"));
  // By its name, as `persona model list` shows it.
  const worker = spawnWorker({ model: "desk", models, "data-dir": await temporaryFolder(), context: "100000" });
  expect(await worker.ended).toBe(2);
  expect(worker.log().at(-1)).toMatchObject({
    reason: "CONFIG_INVALID",
    msg: expect.stringMatching(/^context: 100000 tokens, the model has \d+$/),
  });
});

test("a package in bfloat16 is refused before it is loaded, naming the provider that it needs", async () => {
  const model = join(await temporaryFolder(), "model");
  await importCheckpoint(STARTER, model, { precision: "bfloat16" });
  const worker = spawnWorker({ model, "data-dir": await temporaryFolder() });
  expect(await worker.ended).toBe(5);
  expect(worker.log().at(-1)).toMatchObject({
    reason: "PRECISION_UNSUPPORTED",
    msg: expect.stringContaining('needs the provider "cuda"'),
  });
});
