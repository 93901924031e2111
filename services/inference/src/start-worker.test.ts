import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { type GenerateResponse, InferenceService } from "@persona-mesh/protocol";
import { RevocationPolicy } from "@persona-mesh/protocol/registry";
import {
  type Client,
  type ClientError,
  createClient,
  createLogger,
  ensureDevKeys,
  loadConfig,
  openDevTls,
  signDevToken,
  type TlsSource,
} from "@persona-mesh/service";
import { afterAll, beforeAll, expect, test } from "vitest";
import { documentedFigures, shownFigures } from "../../../packages/service/src/testing/telemetry-page.ts";
import { WORKER_OPTIONS } from "./options.ts";
import { type RunningWorker, startWorker } from "./start-worker.ts";
import {
  personaState,
  revisionWith,
  revocation,
  type TestVersion,
  tenantState,
  versionAlong,
} from "./testing/governed-personas.ts";
import { changeSet, ScriptedRegistry, snapshot } from "./testing/scripted-registry.ts";

// A whole worker with the starter model, governed by a registry that says what the test wants.

const GLAD = "tenants/acme/personas/glad";

let dataDir: string;
let tls: TlsSource;
let registry: ScriptedRegistry;
let running: RunningWorker;
let client: Client<typeof InferenceService>;
const log = createLogger("test", "silent");

beforeAll(async () => {
  dataDir = await mkdtemp(join(tmpdir(), "persona-governed-"));
  registry = new ScriptedRegistry(dataDir);
  await registry.start();
  const { values } = loadConfig(WORKER_OPTIONS);
  running = await startWorker(
    {
      ...values,
      dataDir,
      devTls: true,
      grpcPort: 0,
      managementPort: 0,
      slots: 2,
      threads: 1,
      drainSeconds: 1,
      registryAddress: registry.address,
      workerName: "governed",
    },
    log,
  );
  tls = await openDevTls(dataDir, "test-client", log);
  const token = await signDevToken(await ensureDevKeys(dataDir), { subject: "t", tenant: "acme", roles: ["operator"] });
  client = createClient(InferenceService, running.server.address, tls, { token });
}, 60_000);

afterAll(async () => {
  client.close();
  await running.close();
  tls.close();
  await registry[Symbol.asyncDispose]();
  await rm(dataDir, { recursive: true, force: true });
});

/** Lines of a gauge, without its help. */
const gauge = async (name: string) => {
  const response = await fetch(`http://127.0.0.1:${running.server.managementPort}/metrics`);
  return (await response.text()).split("\n").filter((line) => line.startsWith(name));
};

const readiness = async () => (await fetch(`http://127.0.0.1:${running.server.managementPort}/readyz`)).status;

/** A long greedy reply; what was told, in order, and how it ended. */
async function stream(onToken: (count: number) => void, persona = GLAD) {
  const told: GenerateResponse["event"][] = [];
  let tokens = 0;
  try {
    const request = {
      prompt: { input: { case: "text" as const, value: "Once upon a time" } },
      persona: { selector: { case: "name" as const, value: persona } },
      sampling: { temperature: 0 },
      maxTokens: 200,
      ignoreEos: true,
    };
    for await (const { event } of client.generate(request)) {
      told.push(event);
      if (event.case === "tokens") onToken(++tokens);
      // The registry's word needs a turn of the event loop, which this process shares with it.
      await sleep(0);
    }
    return { told, error: undefined };
  } catch (error) {
    return { told, error: error as ClientError };
  }
}

test("a worker serves what the registry says, from the moment that it has said it; revoked versions go from running streams", async () => {
  expect(await readiness()).toBe(503);
  expect(await gauge("persona_inference_registry_state")).toContain(
    'persona_inference_registry_state{state="not_ready"} 1',
  );
  const { modelChecksum, spec } = running.worker.model.manifest;
  const made = { modelChecksum, hiddenSize: spec.hidden, layerCount: spec.layers };
  const [X, Y] = [versionAlong(0, made), versionAlong(1, made)];
  const revision = (persona: string, version: TestVersion) => revisionWith(persona, version, { modelChecksum });
  const [glad, grim] = [revision("glad", X), revision("grim", Y)];
  registry.has(X, Y);
  await expect.poll(() => registry.watches.length).toBe(1);
  expect(registry.watch.request).toMatchObject({ worker: "governed", modelChecksum });
  registry.watch.send(
    snapshot(10n, [personaState(glad), personaState(grim), tenantState({ revocation: RevocationPolicy.REMOVE })]),
  );
  await expect.poll(readiness).toBe(200);
  expect(await gauge("persona_inference_registry_state")).toContain(
    'persona_inference_registry_state{state="ready"} 1',
  );
  expect(await gauge("persona_inference_registry_problems")).toEqual(["persona_inference_registry_problems 0"]);

  const removed = await stream((count) => {
    if (count === 5) registry.watch.send(changeSet(10n, 11n, [revocation(X)]));
  });
  expect(removed.error).toBeUndefined();
  expect(removed.told[0]).toMatchObject({ value: { persona: { name: GLAD, revision: glad.digest } } });
  const switches = removed.told.filter((event) => event.case === "personaSwitched");
  expect(switches).toHaveLength(1);
  expect(switches[0]?.value.persona).toBeUndefined();
  const { afterTokens } = switches[0]?.value ?? { afterTokens: 0 };
  expect(afterTokens).toBeGreaterThanOrEqual(5);
  expect(afterTokens).toBeLessThan(200);
  const last = removed.told.at(-1);
  expect(last).toMatchObject({ case: "finished", value: { completionTokens: 200, effectiveAlphaHundredths: 0 } });
  // What the residual says along the persona's row is told for as long as the row is there.
  const measured = removed.told.flatMap((event) =>
    event.case === "tokens" ? event.value.tokens.map(({ projections }) => projections.length) : [],
  );
  expect(measured).toEqual(Array.from({ length: 200 }, (_, i) => (i < afterTokens ? 1 : 0)));
  expect((await stream(() => {})).error).toMatchObject({ reason: "VERSION_REVOKED" });

  registry.watch.send(changeSet(11n, 12n, [tenantState({ revocation: RevocationPolicy.END, capHundredths: 25 })]));
  await expect.poll(() => registry.reports.at(-1)?.appliedRevision).toBe(12n);
  const ended = await stream((count) => {
    if (count === 5) registry.watch.send(changeSet(12n, 13n, [revocation(Y)]));
  }, "tenants/acme/personas/grim");
  expect(ended.error).toMatchObject({ reason: "VERSION_REVOKED" });
  // 0.3 under a cap of 0.25 is lowered by one step of 0.1.
  expect(ended.told[0]).toMatchObject({ value: { persona: { effectiveAlphaHundredths: 20 } } });
  expect(ended.told.length).toBeGreaterThan(5);
});

test("docs/telemetry.md lists the figures that a worker shows, and no others", async () => {
  // A reply that has everything: all that shows when there is something to show.
  running.worker.telemetry.replied(
    {
      operation: "chat",
      choice: 0,
      choices: 1,
      promptTokens: 2,
      cachedTokens: 1,
      replyTokens: 2,
      outcome: { kind: "finished", reason: "end" },
      times: { queued: 0, started: 1, firstToken: 2, ended: 3, preemptedMillis: 0 },
      persona: { revision: "r", versionDigests: ["f".repeat(64)], effectiveAlphaHundredths: 10 },
      watched: {
        events: [
          {
            cause: "REPETITION",
            at: 2,
            afterTokens: 1,
            entropyRatio: 1,
            repetition: 1,
            kl: undefined,
            alphaBeforeHundredths: 20,
            alphaAfterHundredths: 10,
          },
        ],
        coherence: { score: 0.9, weakest: "repetition", parts: { entropy: 1, repetition: 0.9 }, entropyRatio: 1 },
        twin: { tokens: 2, meanKl: 0.3, maxKl: 1, meanEntropyDifference: 0 },
      },
    },
    { record: () => {} },
  );
  const response = await fetch(`http://127.0.0.1:${running.server.managementPort}/metrics`);
  expect(shownFigures(await response.text())).toEqual(documentedFigures("Every service", "The worker"));
});
