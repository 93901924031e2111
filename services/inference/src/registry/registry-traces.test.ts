import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createLogger, openDevTls, startTracing } from "@persona-mesh/service";
import { expect, onTestFinished, test } from "vitest";
import { type ReceivedSpan, startOtlpReceiver } from "../../../../packages/service/src/testing/otlp-receiver.ts";
import { personaState, revisionWith, TEST_MODEL, tenantState, versionAlong } from "../testing/governed-personas.ts";
import { ScriptedRegistry, snapshot } from "../testing/scripted-registry.ts";
import { RegistryPersonas } from "./registry-personas.ts";

const [SERVER, CLIENT] = [2, 3];

test("the worker's calls to the registry are one trace on both sides", async () => {
  const log = createLogger("test", "silent");
  const folder = await mkdtemp(join(tmpdir(), "persona-traces-"));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  const collector = await startOtlpReceiver();
  onTestFinished(collector.close);
  const tracing = await startTracing({ service: "test", endpoint: collector.endpoint, exportIntervalMs: 20 }, log);
  onTestFinished(() => tracing?.close());
  const registry = new ScriptedRegistry(folder);
  const X = versionAlong(0);
  registry.has(X);
  await registry.start();
  onTestFinished(() => registry[Symbol.asyncDispose]());
  const tls = await openDevTls(folder, "inference", log);
  onTestFinished(tls.close);

  const personas = await RegistryPersonas.open(
    {
      address: registry.address,
      tls,
      trustDomain: "persona-mesh",
      worker: "worker-1",
      cacheFolder: join(folder, "cache"),
      cacheBytes: 1_000_000,
    },
    TEST_MODEL,
    log,
  );
  await expect.poll(() => registry.watches.length).toBe(1);
  registry.watch.send(snapshot(10n, [personaState(revisionWith("glad", X)), tenantState()]));
  await personas.ready;
  await expect.poll(() => registry.reports.length).toBeGreaterThan(0);
  // The watch is a call as long as the worker lives: its spans end with it.
  await personas[Symbol.asyncDispose]();

  const of = (method: string) => collector.spans.filter(({ name }) => name.endsWith(`DistributionService/${method}`));
  for (const method of ["Watch", "FetchVersions", "ReportWorker"]) {
    await expect.poll(() => new Set(of(method).map(({ kind }) => kind)), { timeout: 10_000 }).toContain(SERVER);
    const server = of(method).find(({ kind }) => kind === SERVER) as ReceivedSpan;
    await expect
      .poll(() => of(method).some(({ spanId }) => spanId === server.parentSpanId), { timeout: 10_000 })
      .toBe(true);
    const client = of(method).find(({ spanId }) => spanId === server.parentSpanId);
    expect(client).toMatchObject({ kind: CLIENT, traceId: server.traceId });
  }
});
