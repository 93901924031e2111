import { mkdir, mkdtemp, rm, rmdir } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { RevocationPolicy, WorkerState } from "@persona-mesh/protocol/registry";
import { createLogger, openDevTls, type TlsSource } from "@persona-mesh/service";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { DEFAULT_SERVING } from "../personas/serving-policy.ts";
import {
  personaState,
  revisionWith,
  revocation,
  TEST_MODEL,
  tenantState,
  versionAlong,
} from "../testing/governed-personas.ts";
import { bookmark, changeSet, ScriptedRegistry, snapshot } from "../testing/scripted-registry.ts";
import { type RegistryOptions, RegistryPersonas } from "./registry-personas.ts";

const GLAD = "tenants/acme/personas/glad";
const GRIM = "tenants/acme/personas/grim";
const X = versionAlong(0);
const Y = versionAlong(1);
const glad = revisionWith("glad", X);
const grim = revisionWith("grim", Y);

let authority: string;
let tls: TlsSource;
let folder: string;
let registry: ScriptedRegistry;
let lines: Record<string, unknown>[];
let opened: RegistryPersonas[];

beforeAll(async () => {
  authority = await mkdtemp(join(tmpdir(), "persona-authority-"));
  tls = await openDevTls(authority, "inference", createLogger("test", "silent"));
});
afterAll(async () => {
  tls.close();
  await rm(authority, { recursive: true, force: true });
});
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "persona-cache-"));
  registry = new ScriptedRegistry(authority);
  registry.has(X, Y);
  await registry.start();
  lines = [];
  opened = [];
});
afterEach(async () => {
  for (const personas of opened) await personas[Symbol.asyncDispose]();
  await registry[Symbol.asyncDispose]();
  await rm(folder, { recursive: true, force: true });
});

async function open(changes: Partial<RegistryOptions> = {}): Promise<RegistryPersonas> {
  const log = createLogger("test", "debug", { write: (line) => lines.push(JSON.parse(line)) });
  const personas = await RegistryPersonas.open(
    {
      address: registry.address,
      tls,
      trustDomain: "persona-mesh",
      worker: "worker-1",
      cacheFolder: folder,
      cacheBytes: 1_000_000,
      watch: { silenceMs: 5_000, backoff: { first: 20, most: 100 } },
      patienceMs: 2_000,
      retryMs: 100,
      ...changes,
    },
    TEST_MODEL,
    log,
  );
  opened.push(personas);
  return personas;
}

const until = (condition: () => unknown, what: string) =>
  expect.poll(condition, { timeout: 10_000, interval: 5, message: what }).toBeTruthy();

const watched = (count = 1) => until(() => registry.watches.length >= count, `${count} watches`);

/** A worker with both personas, "glad" active. */
async function openReady(changes: Partial<RegistryOptions> = {}): Promise<RegistryPersonas> {
  const personas = await open(changes);
  await watched();
  registry.watch.send(snapshot(10n, [personaState(glad), personaState(grim), tenantState({ active: glad })]));
  await personas.ready;
  return personas;
}

const revisionOf = (personas: RegistryPersonas, name: string) => personas.catalog.find("acme", name)?.revision;
const refusal = (call: () => unknown): string => {
  try {
    call();
  } catch (error) {
    return (error as { reason: string }).reason;
  }
  return "none";
};

describe("what the registry says", () => {
  test("a snapshot is in force once its last part is there, whole, and is reported", async () => {
    const personas = await open();
    await watched();
    expect(registry.watch.request).toMatchObject({ modelChecksum: TEST_MODEL.modelChecksum, worker: "worker-1" });
    expect(registry.watch.request.resumeRevision).toBeUndefined();
    registry.watch.send(snapshot(10n, [personaState(glad), tenantState({ active: glad })], false));
    registry.watch.send(snapshot(10n, [personaState(grim)], false));
    await until(() => lines.some(({ msg }) => msg === "the registry is heard"), "parts arrive");
    expect(personas.state).toEqual({ kind: "NOT_READY" });
    expect(personas.catalog.find("acme", GLAD)).toBeUndefined();
    registry.watch.send(snapshot(10n, []));
    await personas.ready;
    expect(personas.state).toEqual({ kind: "READY", revision: 10n });
    expect(revisionOf(personas, GLAD)).toBe(glad.digest);
    expect(personas.catalog.active("acme")?.versionDigests).toEqual([X.digest]);
    expect(personas.catalog.list("acme").map(({ name }) => name)).toEqual([GLAD, GRIM]);
    expect(personas.catalog.find("globex", GLAD)).toBeUndefined();
    expect(registry.fetches).toHaveLength(1);
    await until(() => registry.reports.at(-1)?.appliedRevision === 10n, "the report");
    expect(registry.reports.at(-1)).toMatchObject({ worker: "worker-1", state: WorkerState.READY, problems: [] });
  });

  test("a snapshot replaces everything: what is not in it is gone", async () => {
    const personas = await openReady();
    registry.watch.send(snapshot(12n, [personaState(grim), tenantState({})]));
    await until(() => personas.catalog.active("acme") === undefined, "the second snapshot");
    expect(personas.catalog.find("acme", GLAD)).toBeUndefined();
    expect(revisionOf(personas, GRIM)).toBe(grim.digest);
  });

  test("changes of one revision take effect together, without a fetch in a few milliseconds", async () => {
    const personas = await openReady();
    const later = revisionWith("glad", Y, { number: 2 });
    registry.watch.send(changeSet(10n, 11n, [personaState(later), tenantState({ active: later })]));
    await until(() => revisionOf(personas, GLAD) === later.digest, "the change");
    expect(personas.catalog.active("acme")?.revision).toBe(later.digest);
    expect(registry.fetches).toHaveLength(1);
    const line = lines.find(({ msg, revision }) => msg === "in force" && String(revision) === "11");
    expect(line?.["millis"]).toBeLessThan(20);
  });

  test("bookmarks move the revision, which is reported", async () => {
    const personas = await openReady();
    registry.watch.send(bookmark(40n));
    await until(() => registry.reports.at(-1)?.appliedRevision === 40n, "the report");
    expect(personas.state).toEqual({ kind: "READY", revision: 40n });
    registry.watch.send(changeSet(40n, 41n, [tenantState({})]));
    await until(() => personas.catalog.active("acme") === undefined, "the change after it");
  });

  test("a gap is not taken over: the watch starts again from a snapshot", async () => {
    const personas = await openReady();
    registry.watch.send(changeSet(11n, 12n, [tenantState({})]));
    await watched(2);
    expect(registry.watch.request.resumeRevision).toBeUndefined();
    expect(personas.catalog.active("acme")?.name).toBe(GLAD);
    registry.watch.send(snapshot(12n, [personaState(grim), tenantState({ active: grim })]));
    await until(() => personas.catalog.active("acme")?.name === GRIM, "the new snapshot");
  });

  test("a deleted tenant's personas go, also for those who wear them", async () => {
    const personas = await openReady();
    const worn = personas.catalog.find("acme", GLAD);
    if (worn === undefined) throw new Error("not there");
    expect(personas.catalog.standing(worn)).toEqual({ kind: "served", capHundredths: 50 });
    registry.watch.send(changeSet(10n, 11n, [tenantState({ deleted: true })]));
    await until(() => personas.catalog.list("acme").length === 0, "the deletion");
    expect(personas.catalog.find("acme", GLAD)).toBeUndefined();
    expect(personas.catalog.standing(worn)).toMatchObject({ kind: "withdrawn", policy: "REMOVE" });
  });
});

describe("the connection", () => {
  test("a lost registry is found again from the last revision, and until then the last known personas are served", async () => {
    const personas = await openReady({ watch: { silenceMs: 700, backoff: { first: 20, most: 100 } } });
    registry.watch.send(bookmark(15n));
    await until(() => personas.state.kind === "READY" && personas.state.revision === 15n, "the bookmark");
    await registry.kill();
    await until(() => personas.state.kind === "STALE", "the loss");
    expect(revisionOf(personas, GLAD)).toBe(glad.digest);
    await registry.start();
    await watched(2);
    expect(registry.watch.request.resumeRevision).toBe(15n);
    registry.watch.send(changeSet(15n, 16n, [tenantState({ active: grim })]));
    await until(() => personas.state.kind === "READY" && personas.state.revision === 16n, "the change");
    expect(personas.catalog.active("acme")?.name).toBe(GRIM);
    await until(() => registry.reports.at(-1)?.appliedRevision === 16n, "the report");
  });

  test("a stream that ends in good order is resumed at once, and the worker was never stale", async () => {
    const personas = await openReady();
    registry.watch.end();
    await watched(2);
    expect(registry.watch.request.resumeRevision).toBe(10n);
    registry.watch.send(bookmark(11n));
    await until(() => personas.state.kind === "READY" && personas.state.revision === 11n, "the bookmark");
    expect(lines.some(({ state }) => state === "STALE")).toBe(false);
  });

  test("a compacted position is answered by a snapshot", async () => {
    const personas = await openReady();
    registry.watch.end();
    await watched(2);
    registry.watch.send(snapshot(500n, [personaState(grim), tenantState({})]));
    await until(() => personas.state.kind === "READY" && personas.state.revision === 500n, "the snapshot");
    expect(personas.catalog.find("acme", GLAD)).toBeUndefined();
  });

  test("a registry that falls silent is left and watched anew", async () => {
    const personas = await openReady({ watch: { silenceMs: 300, backoff: { first: 20, most: 100 } } });
    const first = registry.watch;
    await watched(2);
    expect(personas.state.kind).toBe("STALE");
    await until(() => first.isOver(), "the end of the first watch");
  });

  test("past a tenant's staleness limit its personas are refused, another tenant's are not", async () => {
    const personas = await open({ watch: { silenceMs: 60_000, backoff: { first: 20, most: 100 } } });
    await watched();
    const other = revisionWith("tenants/globex/personas/glad", X);
    registry.watch.send(
      snapshot(10n, [
        personaState(glad),
        tenantState({ active: glad, stalenessLimit: { seconds: 0n, nanos: 200_000_000 } }),
        personaState(other),
        tenantState({ active: other }, "globex"),
      ]),
    );
    await personas.ready;
    await until(() => refusal(() => personas.catalog.find("acme", GLAD)) === "PERSONAS_STALE", "staleness");
    expect(refusal(() => personas.catalog.active("acme"))).toBe("PERSONAS_STALE");
    expect(personas.catalog.list("acme")).toEqual([]);
    expect(personas.catalog.active("globex")?.name).toBe("tenants/globex/personas/glad");
    registry.watch.send(bookmark(10n));
    await until(() => refusal(() => personas.catalog.find("acme", GLAD)) === "none", "contact");
  });
});

describe("versions", () => {
  test("bytes that are not what their digest says keep their persona out, and no other", async () => {
    registry.contents.set(Y.digest, X.content);
    const personas = await openReady();
    expect(revisionOf(personas, GLAD)).toBe(glad.digest);
    expect(refusal(() => personas.catalog.find("acme", GRIM))).toBe("PERSONA_NOT_SERVABLE");
    expect(personas.state).toMatchObject({
      kind: "ERROR",
      problems: [{ tenant: "acme", resource: grim.name, reason: "VERSION_DIGEST_MISMATCH" }],
    });
    await until(() => registry.reports.at(-1)?.state === WorkerState.ERROR, "the report");
    expect(registry.reports.at(-1)?.problems).toMatchObject([{ reason: "VERSION_DIGEST_MISMATCH" }]);
    registry.contents.set(Y.digest, Y.content);
    await until(() => personas.state.kind === "READY", "another try");
    expect(revisionOf(personas, GRIM)).toBe(grim.digest);
  });

  test.each([
    ["another model's revision", { modelChecksum: "f".repeat(64) }, "MODEL_MISMATCH"],
    ["no composition", { composition: undefined as never }, "NOT_COMPOSED"],
    ["another outcome", { composition: { outcome: "SCALED", factor: 1, capHundredths: 50 } }, "COMPOSITION_DIFFERS"],
    ["another factor", { composition: { outcome: "ACCEPTED", factor: 0.5, capHundredths: 50 } }, "COMPOSITION_DIFFERS"],
    ["an alpha over the cap", { alpha: 60 }, "ALPHA_OVER_CAP"],
  ] as const)("%s is kept out, with the reason", async (_, changes, reason) => {
    const personas = await open();
    await watched();
    const bad = revisionWith("bad", X, changes);
    registry.watch.send(snapshot(10n, [personaState(bad), personaState(glad), tenantState({ active: bad })]));
    await personas.ready;
    expect(personas.state).toMatchObject({ kind: "ERROR", problems: [{ resource: bad.name, reason }] });
    expect(refusal(() => personas.catalog.active("acme"))).toBe("PERSONA_NOT_SERVABLE");
    expect(revisionOf(personas, GLAD)).toBe(glad.digest);
  });

  test.each([
    ["another model", versionAlong(2, { modelChecksum: "f".repeat(64) }), "MODEL_MISMATCH"],
    ["another depth", versionAlong(2, { layerCount: 9 }), "LAYER_OUT_OF_RANGE"],
    ["another width", versionAlong(2, { hiddenSize: 5 }), "VECTOR_WIDTH_MISMATCH"],
  ] as const)("a version made on %s is kept out, and both sides are named", async (_, version, reason) => {
    registry.has(version);
    const personas = await open();
    await watched();
    registry.watch.send(snapshot(10n, [personaState(revisionWith("bad", version)), tenantState({})]));
    await personas.ready;
    expect(personas.state).toMatchObject({ kind: "ERROR", problems: [{ reason }] });
    const [problem] = personas.state.kind === "ERROR" ? personas.state.problems : [];
    expect(problem?.message).toMatch(reason === "MODEL_MISMATCH" ? /f{64}.*a{64}/ : /[59].*[34]/);
  });

  test("a persona of more rows than the table has is kept out", async () => {
    const layers = [0, 1, 2];
    const wide = versionAlong(0, { layers });
    registry.has(wide);
    const revision = revisionWith("wide", wide, {
      terms: [{ version: "v", digest: wide.digest, alphaHundredths: 30, layers }],
    });
    const log = createLogger("test", "silent");
    const personas = await RegistryPersonas.open(
      {
        address: registry.address,
        tls,
        trustDomain: "persona-mesh",
        worker: "w",
        cacheFolder: folder,
        cacheBytes: 1e6,
      },
      { ...TEST_MODEL, tableRows: 2 },
      log,
    );
    opened.push(personas);
    await watched();
    registry.watch.send(snapshot(10n, [personaState(revision), tenantState({})]));
    await personas.ready;
    expect(personas.state).toMatchObject({ kind: "ERROR", problems: [{ reason: "TABLE_TOO_SMALL" }] });
  });

  test("while versions are on their way the last personas act, and a revocation overtakes them", async () => {
    const personas = await openReady();
    const Z = versionAlong(2);
    registry.has(Z);
    const gate = Promise.withResolvers<void>();
    registry.fetchGate = gate.promise;
    const next = revisionWith("glad", Z, { number: 2 });
    registry.watch.send(changeSet(10n, 11n, [personaState(next), tenantState({ active: next })]));
    await until(() => registry.fetches.length === 2, "the fetch");
    expect(revisionOf(personas, GLAD)).toBe(glad.digest);
    registry.watch.send(changeSet(11n, 12n, [revocation(Y)]));
    await until(() => refusal(() => personas.catalog.find("acme", GRIM)) === "VERSION_REVOKED", "the revocation");
    expect(revisionOf(personas, GLAD)).toBe(glad.digest);
    gate.resolve();
    await until(() => revisionOf(personas, GLAD) === next.digest, "the version");
    await until(() => personas.state.kind === "READY" && personas.state.revision === 12n, "both revisions");
  });
});

test("versions that do not come hold nobody up a second time, and come later", async () => {
  const personas = await openReady({ patienceMs: 150, retryMs: 400 });
  const Z = versionAlong(2);
  const gate = Promise.withResolvers<void>();
  registry.fetchGate = gate.promise;
  const next = revisionWith("new", Z);
  registry.watch.send(changeSet(10n, 11n, [personaState(next)]));
  await until(() => personas.state.kind === "ERROR", "the end of patience");
  expect(personas.state).toMatchObject({ problems: [{ resource: next.name, reason: "VERSION_BYTES_MISSING" }] });
  registry.watch.send(changeSet(11n, 12n, [tenantState({ active: grim })]));
  await until(() => personas.catalog.active("acme")?.name === GRIM, "the change after it");
  const line = lines.find(({ msg, revision }) => msg === "in force" && revision === "12");
  expect(line?.["millis"]).toBeLessThan(50);
  registry.has(Z);
  gate.resolve();
  await until(() => personas.state.kind === "READY", "another try");
  expect(personas.catalog.find("acme", "tenants/acme/personas/new")?.revision).toBe(next.digest);
});

describe("revocation", () => {
  test("new calls are refused, and those who wear the version hear of it by the tenant's policy", async () => {
    const personas = await openReady();
    const worn = personas.catalog.find("acme", GLAD);
    const other = personas.catalog.find("acme", GRIM);
    if (worn === undefined || other === undefined) throw new Error("not there");
    registry.watch.send(changeSet(10n, 11n, [revocation(X)]));
    await until(() => refusal(() => personas.catalog.find("acme", GLAD)) === "VERSION_REVOKED", "the revocation");
    expect(refusal(() => personas.catalog.active("acme"))).toBe("VERSION_REVOKED");
    expect(personas.catalog.standing(worn)).toMatchObject({ kind: "withdrawn", policy: "REMOVE" });
    expect(personas.catalog.standing(other)).toMatchObject({ kind: "served" });
    expect(personas.catalog.list("acme").map(({ name }) => name)).toEqual([GRIM]);
    registry.watch.send(changeSet(11n, 12n, [tenantState({ revocation: RevocationPolicy.END })]));
    await until(() => personas.state.kind === "READY" && personas.state.revision === 12n, "the policy");
    expect(personas.catalog.standing(worn)).toMatchObject({ kind: "withdrawn", policy: "END" });
  });

  test("another tenant's version of the same bytes is not revoked with it", async () => {
    const personas = await open();
    await watched();
    const other = revisionWith("tenants/globex/personas/glad", X);
    registry.watch.send(
      snapshot(10n, [revocation(X), personaState(glad), tenantState(), personaState(other), tenantState({}, "globex")]),
    );
    await personas.ready;
    expect(refusal(() => personas.catalog.find("acme", GLAD))).toBe("VERSION_REVOKED");
    expect(personas.catalog.find("globex", "tenants/globex/personas/glad")?.revision).toBe(other.digest);
    expect(personas.state.kind).toBe("READY");
  });

  test("nothing takes a revocation back, no later snapshot either", async () => {
    const personas = await openReady();
    registry.watch.send(changeSet(10n, 11n, [revocation(X)]), snapshot(12n, [personaState(glad), tenantState()]));
    await until(() => personas.state.kind === "READY" && personas.state.revision === 12n, "the snapshot");
    expect(refusal(() => personas.catalog.find("acme", GLAD))).toBe("VERSION_REVOKED");
  });
});

test("a revocation that the disk does not take acts all the same, and is not acknowledged until it does", async () => {
  const personas = await openReady();
  const path = join(folder, TEST_MODEL.modelChecksum, "worker-1", "revocations");
  await mkdir(path);
  registry.watch.send(changeSet(10n, 11n, [revocation(X)]));
  await until(() => refusal(() => personas.catalog.find("acme", GLAD)) === "VERSION_REVOKED", "the revocation");
  await until(() => personas.state.kind === "ERROR" && personas.state.revision === 11n, "the error");
  expect(personas.state).toMatchObject({ problems: [{ reason: "REVOCATIONS_NOT_DURABLE" }] });
  await until(() => registry.reports.at(-1)?.state === WorkerState.ERROR, "the report");
  expect(registry.reports.at(-1)?.appliedRevision).toBe(10n);
  await rmdir(path);
  registry.watch.send(bookmark(12n));
  await until(() => registry.reports.at(-1)?.appliedRevision === 12n, "the acknowledgement");
  expect(personas.state).toEqual({ kind: "READY", revision: 12n });
  await personas[Symbol.asyncDispose]();
  await registry.kill();
  const later = await open();
  expect(refusal(() => later.catalog.find("acme", GLAD))).toBe("VERSION_REVOKED");
});

describe("a start without the registry", () => {
  /** Serve, end in good order, and take the registry away. */
  async function leave(...messages: Parameters<ScriptedRegistry["watch"]["send"]>): Promise<void> {
    const personas = await openReady();
    registry.watch.send(...messages);
    const target = BigInt(10 + messages.length);
    await until(() => personas.state.kind !== "NOT_READY" && personas.state.revision === target, "the changes");
    await personas[Symbol.asyncDispose]();
    await registry.kill();
  }

  test("the cache serves what was last in force, as stale", async () => {
    await leave(changeSet(10n, 11n, [tenantState({ active: grim })]));
    const personas = await open();
    await personas.ready;
    expect(personas.state).toMatchObject({ kind: "STALE", revision: 11n, problems: [] });
    expect(personas.catalog.active("acme")?.revision).toBe(grim.digest);
    expect(revisionOf(personas, GLAD)).toBe(glad.digest);
    // The registry is back: nothing is taken for granted, everything is asked for again.
    await registry.start();
    await watched(2);
    expect(registry.watch.request.resumeRevision).toBeUndefined();
    registry.watch.send(snapshot(20n, [personaState(glad), tenantState({ active: glad })]));
    await until(() => personas.state.kind === "READY", "the registry");
    expect(registry.fetches).toHaveLength(1);
  });

  test("what tenants may take, and how their replies are guarded, comes from the cache too", async () => {
    const policy = { guard: { windowTokens: 64, observeOnly: true }, serving: { weight: 300, maxRunning: 2 } };
    await leave(changeSet(10n, 11n, [tenantState({ active: glad, ...policy })]));
    const { catalog } = await open();
    expect(catalog.serving("acme")).toMatchObject({
      weight: 300,
      maxRunning: 2,
      maxWaiting: Number.POSITIVE_INFINITY,
      guard: { windowTokens: 64, observeOnly: true, bandHundredths: 15 },
    });
    expect(catalog.serving("globex")).toBe(DEFAULT_SERVING);
  });

  test("what was revoked stays revoked", async () => {
    await leave(changeSet(10n, 11n, [revocation(X)]));
    const personas = await open();
    expect(refusal(() => personas.catalog.find("acme", GLAD))).toBe("VERSION_REVOKED");
    expect(revisionOf(personas, GRIM)).toBe(grim.digest);
  });

  test("a limit that passed while the worker was away counts", async () => {
    await leave(changeSet(10n, 11n, [tenantState({ active: glad, stalenessLimit: { seconds: 0n, nanos: 1 } })]));
    const personas = await open();
    expect(refusal(() => personas.catalog.find("acme", GLAD))).toBe("PERSONAS_STALE");
  });

  test("with an empty cache the worker is not ready, and says so", async () => {
    await registry.kill();
    const personas = await open();
    await until(() => lines.filter(({ msg }) => msg === "the watch was lost").length > 1, "two tries");
    expect(personas.state).toEqual({ kind: "NOT_READY" });
  });

  test("another worker's cache, and another model's, are not this one's", async () => {
    await leave();
    const personas = await open({ worker: "worker-2" });
    expect(personas.state).toEqual({ kind: "NOT_READY" });
  });
});
