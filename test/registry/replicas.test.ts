import { fileURLToPath } from "node:url";
import type { InferenceClient } from "@persona-mesh/client";
import { ServiceProcess } from "@persona-mesh/local";
import { WorkerState } from "@persona-mesh/protocol/registry";
import { afterAll, beforeAll, expect, test } from "vitest";
import { documentedFigures, shownFigures } from "../../packages/service/src/testing/telemetry-page.ts";
import type { TestRegistry } from "../../services/vector-registry/src/testing/test-registry.ts";
import { type GovernedMesh, openGovernedMesh } from "../support/governed-mesh.ts";
import type { GovernedTenant } from "../support/governed-tenant.ts";
import { ask } from "../support/requests.ts";
import { until } from "../support/until.ts";

const REGISTRY = fileURLToPath(new URL("../../services/vector-registry/src/main.ts", import.meta.url));

/** Shorter than from one bookmark to the next: the watch is cut off and resumed all the time. Seconds. */
const STREAM_SECONDS = 0.8;

let mesh: GovernedMesh;
/** The replica that the worker watches, in a process that can be killed. */
let watched: ServiceProcess;
let acme: GovernedTenant;
let client: InferenceClient;

beforeAll(async () => {
  mesh = await openGovernedMesh({
    address: async (registry) => {
      watched = await startReplica(registry);
      // The first that answers is taken.
      return `ipv4:${watched.address},${registry.address}`;
    },
  });
  acme = await mesh.tenant("acme");
  client = await mesh.client({});
  await acme.produce("glad", 1);
  await acme.produce("grim", 2);
  await acme.followed();
});

// Both are undefined where they did not come up.
afterAll(async () => {
  await mesh?.close();
  await watched?.kill();
});

function startReplica(registry: TestRegistry): Promise<ServiceProcess> {
  return ServiceProcess.start({
    name: "watched replica",
    main: REGISTRY,
    flags: {
      "data-dir": registry.dataDir,
      "audit-roots-file": `${registry.dataDir}/audit-roots-of-replica.jsonl`,
      "database-url": registry.database.url,
      "dev-tls": "true",
      "grpc-port": "0",
      "management-port": "0",
      "stream-max-seconds": String(STREAM_SECONDS),
      "stream-default-seconds": String(STREAM_SECONDS),
    },
  });
}

/** Lines of the worker's log from a moment on. */
function logFrom(line: number) {
  return mesh.worker.log().slice(line);
}

/** Updates that the worker has put in force, in that order, as kind and revision. */
function inForce(lines: readonly Record<string, unknown>[]) {
  return lines.filter(({ msg }) => msg === "in force").map(({ kind, revision }) => [kind, Number(revision)] as const);
}

async function watchers(): Promise<number> {
  const metrics = await (await fetch(`http://127.0.0.1:${watched.managementPort}/metrics`)).text();
  return Number(/^persona_registry_watchers(?:\{[^}]*\})? (\d+)/m.exec(metrics)?.[1]);
}

async function activeName(): Promise<string | undefined> {
  const { persona: _, ...request } = ask("hello", { maxTokens: 1 });
  return (await client.generateText(request)).started.persona?.name;
}

/** Activates one persona after the other, so that each call is a change. */
const turns = (function* () {
  for (;;) yield* ["glad", "grim"] as const;
})();

async function takeTurn(): Promise<{ name: string; revision: bigint }> {
  const { value: persona } = turns.next();
  return { name: acme.persona(persona), revision: await acme.activate(persona) };
}

test("a watch that ends again and again misses nothing, and the worker is never stale", async () => {
  expect(await watchers()).toBe(1);
  const from = mesh.worker.log().length;
  const ends = () => logFrom(from).filter(({ msg }) => msg === "the watch was lost").length;
  const revisions: bigint[] = [];
  while (ends() < 2) {
    const { name, revision } = await takeTurn();
    revisions.push(revision);
    await acme.followed(revision);
    expect(await activeName()).toBe(name);
    expect((await acme.distribution()).workers.map(({ state }) => state)).toEqual([WorkerState.READY]);
  }
  // Where nothing changes too: a stream that says nothing would look like a registry that is away.
  await until(() => ends() >= 5, "three more watches without a change");
  const lines = logFrom(from);
  expect(inForce(lines)).toEqual(revisions.map((revision) => ["changes", Number(revision)]));
  expect(lines.filter(({ state }) => state !== undefined)).toEqual([]);
});

test("docs/telemetry.md lists the figures that a registry shows, and no others", async () => {
  const metrics = await fetch(`http://127.0.0.1:${watched.managementPort}/metrics`);
  // A registry calls nobody.
  const documented = documentedFigures("Every service", "The registry").filter(
    (name) => !name.startsWith("rpc_client"),
  );
  expect(shownFigures(await metrics.text())).toEqual(documented);
});

test("kill -9 of the replica that is watched: changes go on arriving from the other, each once and in order", async () => {
  const from = mesh.worker.log().length;
  const revisions: bigint[] = [];
  let last = "";
  for (let turn = 0; turn < 30; turn++) {
    // In the middle of changes, of which some are on their way.
    if (turn === 10) void watched.kill();
    const { name, revision } = await takeTurn();
    revisions.push(revision);
    last = name;
  }
  await watched.ended;
  await acme.followed(revisions.at(-1));
  expect(await activeName()).toBe(last);
  expect(inForce(logFrom(from))).toEqual(revisions.map((revision) => ["changes", Number(revision)]));
  await until(async () => {
    const { workers } = await acme.distribution();
    return workers[0]?.state === WorkerState.READY && workers[0].connected;
  }, "the worker is connected to the other replica");
});
