import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { status } from "@grpc/grpc-js";
import { InferenceClient } from "@persona-mesh/client";
import { ensureDevKeys, signDevToken } from "@persona-mesh/service";
import { expect, onTestFinished, test } from "vitest";
import { failureOf } from "../support/failure.ts";
import { ask } from "../support/requests.ts";
import { starterPackage } from "../support/starter-package.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { openWireCall } from "../support/wire-call.ts";
import { startWorkerProcess } from "../support/worker-process.ts";

const RUNTIME = new URL("../../packages/model/src/runtime/index.ts", import.meta.url);

/** Told so by a signal, the process loses its sessions: from then on the runtime refuses every run, as a real one would. */
const LOSES_ITS_SESSIONS = `
import { ModelRuntime } from "${RUNTIME}";
const open = ModelRuntime.open;
ModelRuntime.open = async (...options) => {
  const runtime = await open.apply(ModelRuntime, options);
  process.on("SIGUSR2", () => runtime[Symbol.dispose]());
  return runtime;
};
`;

test("a runtime that breaks under load: every call ends with a status, liveness says so, and the process ends with 1", async () => {
  const folder = await temporaryFolder();
  const preload = join(folder, "loses-its-sessions.mjs");
  await writeFile(preload, LOSES_ITS_SESSIONS);
  const dataDir = join(folder, "data");
  const model = await starterPackage(join(folder, "model"));
  const worker = await startWorkerProcess(
    { model, "data-dir": dataDir, slots: "2", "drain-seconds": "1" },
    pathToFileURL(preload).href,
  );
  const keys = await ensureDevKeys(dataDir);
  const token = await signDevToken(keys, { subject: "tester", tenant: "acme", roles: ["operator"] });
  const client = new InferenceClient({ address: worker.address, token });
  onTestFinished(() => client.close());
  const shown = async (path: string) => {
    const response = await fetch(`http://127.0.0.1:${worker.managementPort}${path}`);
    return [response.status, (await response.text()).trim()];
  };
  expect(await shown("/healthz")).toEqual([200, "ok"]);

  // Whoever does not read keeps its call for as long as the drain lets it: time to look at the broken worker.
  openWireCall(worker.address, { token, request: ask("hello", { maxTokens: 50 }), window: 0 });
  await client.generateText(ask("hello", { maxTokens: 60 }));
  const calls = Array.from({ length: 8 }, () => failureOf(client.generateText(ask("hello", { maxTokens: 1_000_000 }))));
  await client.getModel();
  worker.child.kill("SIGUSR2");

  const failures = await Promise.all(calls);
  const of = (wanted: string) => failures.filter(({ reason }) => reason === wanted);
  // Those of the three steps that failed cannot know whether another try helps; the others can.
  for (const failure of of("STEP_FAILED")) expect(failure.code).toBe(status.INTERNAL);
  for (const failure of of("DRAINING")) {
    expect(failure).toMatchObject({ code: status.UNAVAILABLE, retryDelayMs: expect.any(Number) });
  }
  expect(of("STEP_FAILED").length).toBeGreaterThanOrEqual(3);
  expect(of("DRAINING").length).toBeGreaterThanOrEqual(1);
  expect(of("STEP_FAILED").length + of("DRAINING").length).toBe(calls.length);

  expect(await shown("/healthz")).toEqual([503, "broken"]);
  expect((await shown("/readyz"))[0]).toBe(503);
  expect(await failureOf(client.generateText(ask("hello")))).toMatchObject({ code: status.UNAVAILABLE });
  expect(await worker.ended).toBe(1);
  await expect(shown("/healthz")).rejects.toThrow("fetch failed");
  expect(worker.log().filter(({ level }) => level === "fatal")).toMatchObject([
    { msg: "the runtime is broken; ending, to be started anew" },
  ]);
});
