import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { InferenceClient } from "@persona-mesh/client";
import { ServiceProcess } from "@persona-mesh/local";
import { WorkerState } from "@persona-mesh/protocol/registry";
import { afterAll, beforeAll, expect, test } from "vitest";
import { StateFile } from "../../services/inference/src/registry/cache/state-file.ts";
import { compact } from "../../services/vector-registry/src/distribution/compaction.ts";
import type { RunningRegistry } from "../../services/vector-registry/src/start-registry.ts";
import { openTestRegistry, type TestRegistry } from "../../services/vector-registry/src/testing/test-registry.ts";
import { failureOf } from "../support/failure.ts";
import { modelRegistered, WORKER, workerClient } from "../support/governed-mesh.ts";
import { GovernedTenant, type GovernedVersion } from "../support/governed-tenant.ts";
import { ask, fingerprint } from "../support/requests.ts";
import { askServedModel } from "../support/served-model.ts";
import { starterPackage } from "../support/starter-package.ts";
import { until } from "../support/until.ts";

// The worst case in its order: a revocation is seen, the worker's power fails, the registry is away, the worker starts.

const WORKER_MAIN = fileURLToPath(new URL("../../services/inference/src/main.ts", import.meta.url));

/** Over what passes between two bookmarks, below what a start takes with some patience. Seconds. */
const SHORT_LIMIT = 4n;

const resources = new AsyncDisposableStack();
let registry: TestRegistry;
/** The replica that the worker knows. It goes away and comes back at the same address; changes go to another one. */
let known: RunningRegistry;
let modelFolder: string;
let worker: ServiceProcess;
let lines: Record<string, unknown>[];
let acme: GovernedTenant;
let globex: GovernedTenant;
let ofAcme: InferenceClient;
let ofGlobex: InferenceClient;
let glad: GovernedVersion;

beforeAll(async () => {
  registry = await openTestRegistry();
  resources.defer(registry.close);
  known = await registry.replica();
  modelFolder = await mkdtemp(join(tmpdir(), "persona-cold-"));
  resources.defer(() => rm(modelFolder, { recursive: true, force: true }));
  await starterPackage(modelFolder);
  await startWorker();
  resources.defer(() => worker.kill());
  const service = resources.use(await workerClient(registry, worker.address, { roles: ["service"] }));
  const served = await askServedModel(service);
  await modelRegistered(registry);
  acme = await GovernedTenant.create(registry, served, "acme");
  globex = await GovernedTenant.create(registry, served, "globex", { stalenessLimit: { seconds: SHORT_LIMIT } });
  glad = await acme.produce("glad", 1);
  await acme.produce("grim", 2);
  await globex.produce("calm", 3);
  const revision = await acme.activate("glad");
  await acme.followed(revision);
  const cached = new StateFile(join(registry.dataDir, "registry", served.model.modelChecksum, WORKER, "state"));
  await until(async () => (await cached.read())?.picture.revision === revision, "what is in force is on the disk");
});

afterAll(() => resources.disposeAsync());

async function startWorker(): Promise<void> {
  const started: typeof lines = [];
  lines = started;
  worker = await ServiceProcess.start({
    name: "inference",
    main: WORKER_MAIN,
    flags: {
      "data-dir": registry.dataDir,
      "dev-tls": "true",
      "registry-address": known.server.address,
      "worker-name": WORKER,
      model: modelFolder,
      "grpc-port": "0",
      "management-port": "0",
      slots: "2",
      threads: "1",
      "log-level": "debug",
    },
    onLine: (line) => {
      if (line.startsWith("{")) started.push(JSON.parse(line));
    },
  });
  ofAcme = resources.use(await workerClient(registry, worker.address, { tenant: "acme" }));
  ofGlobex = resources.use(await workerClient(registry, worker.address, { tenant: "globex" }));
}

const wear = (tenant: GovernedTenant, persona: string) =>
  (tenant === acme ? ofAcme : ofGlobex).generateText(ask("hello", { as: tenant.persona(persona) }));

function wearActive() {
  const { persona: _, ...request } = ask("hello");
  return ofAcme.generateText(request);
}

/** Why a call is refused; "served" where it is not. */
async function outcome(call: Promise<unknown>): Promise<string> {
  return call.then(
    () => "served",
    async (error) => (await failureOf(Promise.reject(error))).reason,
  );
}

/** The state that the worker itself says it is in. */
async function ownState(): Promise<string> {
  const metrics = await (await fetch(`http://127.0.0.1:${worker.managementPort}/metrics`)).text();
  return /^persona_inference_registry_state\{state="(\w+)"\} 1/m.exec(metrics)?.[1] ?? "none";
}

/** The registry at its address again, on its database. */
async function comeBack(): Promise<void> {
  known = await registry.replica({ grpcPort: known.server.port });
}

test("revocation seen, kill -9, registry away: from the cache the revoked persona is refused, the other one served", async () => {
  const before = fingerprint(await wear(acme, "grim"));
  expect(await outcome(wear(acme, "glad"))).toBe("served");
  await acme.revoke(glad);
  await until(async () => (await outcome(wear(acme, "glad"))) === "VERSION_REVOKED", "the worker has seen it");
  await worker.kill();
  await known.close();

  await startWorker();
  expect(await ownState()).toBe("stale");
  expect(await outcome(wear(acme, "glad"))).toBe("VERSION_REVOKED");
  expect(await outcome(wearActive())).toBe("VERSION_REVOKED");
  expect(fingerprint(await wear(acme, "grim"))).toEqual(before);
});

test("without the registry a tenant's personas are served up to its own limit, and then refused", async () => {
  await until(async () => (await outcome(wear(globex, "calm"))) === "PERSONAS_STALE", "globex's limit is over");
  // The tenant's model stays: only what the registry decides about is refused.
  expect(await outcome(ofGlobex.generateText(ask("hello", { maxTokens: 1 })))).toBe("served");
  expect(await outcome(wear(acme, "grim"))).toBe("served");
});

test("the registry back, the worker is ready again and has what was changed meanwhile", async () => {
  const revision = await acme.activate("grim");
  expect((await acme.distribution(revision)).workers).toMatchObject([{ reached: false, connected: false }]);
  expect(await outcome(wearActive())).toBe("VERSION_REVOKED");

  await comeBack();
  await acme.followed(revision);
  expect(await ownState()).toBe("ready");
  expect((await acme.distribution(revision)).workers).toMatchObject([{ state: WorkerState.READY, connected: true }]);
  expect((await wearActive()).started.persona?.name).toBe(acme.persona("grim"));
  expect(await outcome(wear(globex, "calm"))).toBe("served");
  expect(await outcome(wear(acme, "glad"))).toBe("VERSION_REVOKED");
});

test("who was away while the history was compacted gets everything anew, and nothing is lost", async () => {
  await known.close();
  await until(async () => (await ownState()) === "stale", "the worker has noticed");
  await acme.produce("late", 4);
  const revision = await acme.activate("late");
  // Of the changes that the worker has missed, the newest alone is kept.
  const compacted = await compact(registry.database.watch.db, { seconds: 0, changes: 1 });
  expect(compacted).toBe(revision - 1n);
  const from = lines.length;
  await comeBack();
  await acme.followed(revision);
  const inForce = lines.slice(from).filter(({ msg }) => msg === "in force");
  expect(inForce.map(({ kind, revision: at }) => [kind, Number(at)])).toEqual([["snapshot", Number(revision)]]);
  expect((await wearActive()).started.persona?.name).toBe(acme.persona("late"));
  expect(await outcome(wear(acme, "grim"))).toBe("served");
  expect(await outcome(wear(acme, "glad"))).toBe("VERSION_REVOKED");
});
