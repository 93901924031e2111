import { create, toBinary } from "@bufbuild/protobuf";
import {
  ApprovalDecision,
  AuditChain,
  AuditService,
  type Change,
  ChangeSchema,
  DistributionService,
  ModelService,
  PersonaService,
  type WatchResponse,
  WorkerState,
} from "@persona-mesh/protocol/registry";
import { type Client, ClientError } from "@persona-mesh/service";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  type GovernedRegistry,
  type GovernedTenant,
  openGovernedRegistry,
  outcome,
} from "../testing/governed-registry.ts";
import { compact } from "./compaction.ts";
import { partsOf } from "./watch.ts";

let registry: GovernedRegistry;
let worker: Client<typeof DistributionService>;
let model: string;

beforeAll(async () => {
  registry = await openGovernedRegistry();
  worker = await registry.service(DistributionService, "inference");
  // The fixtures' model.
  await registry.tenant(1);
  const models = await registry.client(ModelService);
  model = (await models.listModels({})).models[0]?.modelChecksum ?? "";
});
afterAll(() => registry.close());

const stops: AbortController[] = [];
afterAll(() => {
  for (const stop of stops) stop.abort();
});

/** A watch, read message by message. */
function open(options: { resume?: bigint; worker?: string; model?: string } = {}, client = worker) {
  const stop = new AbortController();
  stops.push(stop);
  const stream = client
    .watch(
      {
        modelChecksum: options.model ?? model,
        worker: options.worker ?? "worker-0",
        ...(options.resume === undefined ? {} : { resumeRevision: options.resume }),
      },
      { signal: stop.signal },
    )
    [Symbol.asyncIterator]();
  const next = async (): Promise<WatchResponse["event"]> => {
    const { value, done } = await stream.next();
    if (done === true) throw new Error("the watch has ended");
    return value.event;
  };
  return {
    next,
    stop,
    /** Messages up to the first one that fits; bookmarks in between say nothing. */
    async until(fits: (event: WatchResponse["event"]) => boolean) {
      for (;;) {
        const event = await next();
        if (fits(event)) return event;
      }
    },
    async snapshot() {
      const event = await next();
      if (event.case !== "snapshot" || !event.value.last) throw new Error(`not a whole snapshot: ${event.case}`);
      return event.value;
    },
    async changes() {
      const event = await this.until((it) => it.case === "changes");
      if (event.case !== "changes") throw new Error("unreachable");
      return event.value;
    },
  };
}

/** The newest revision; a snapshot may be a little older, for those who ask at about the same time share one. */
async function newest(tenant: GovernedTenant): Promise<bigint> {
  const distribution = await registry.client(DistributionService, { tenant: tenant.id, roles: ["viewer"] });
  return (await distribution.getDistribution({ parent: tenant.name })).revision;
}

/** A tenant with the persona "host" at alpha 0.3 of its one version, approved and so released. */
async function hosted(seed: number): Promise<GovernedTenant> {
  const tenant = await registry.tenant(seed);
  const approvals = await tenant.approvals();
  await approvals.createApproval({
    parent: tenant.name,
    version: tenant.version(seed),
    decision: ApprovalDecision.APPROVE,
  });
  const personas = await tenant.personas();
  await personas.createPersona({
    parent: tenant.name,
    personaId: "host",
    persona: { spec: { terms: [{ vector: tenant.version(seed), alphaHundredths: 30 }] } },
  });
  return tenant;
}

const about = (changes: readonly Change[], tenant: GovernedTenant) =>
  changes.filter((change) => change.tenant === tenant.id).map(({ state }) => state);

describe("a watch", () => {
  test("begins with everything at one revision, and goes on with each change", async () => {
    const tenant = await hosted(11);
    const watch = open();
    const { revision, changes } = await watch.snapshot();
    const states = about(changes, tenant);
    expect(states.map((state) => state.case)).toEqual(["personaState", "tenantState"]);
    expect(states[0]?.value).toMatchObject({ name: tenant.persona("host"), released: { number: 1 } });
    expect(states[1]?.value).toMatchObject({ capHundredths: 50, deleted: false });

    const answer = await (await tenant.personas("olga", "operator")).activatePersona({ name: tenant.persona("host") });
    let told = await watch.changes();
    while (told.revision < answer.revision) told = await watch.changes();
    expect(told.revision).toBe(answer.revision);
    expect(told.previousRevision).toBeGreaterThanOrEqual(revision);
    expect(about(told.changes, tenant)).toMatchObject([
      { case: "tenantState", value: { active: { name: `${tenant.persona("host")}/revisions/1` } } },
    ]);
  });

  test("goes on where the worker was, without a snapshot", async () => {
    const tenant = await hosted(12);
    const revision = await newest(tenant);
    const personas = await tenant.personas();
    await personas.activatePersona({ name: tenant.persona("host") });
    const { revision: last } = await personas.deactivatePersona({ parent: tenant.name });
    const watch = open({ resume: revision });
    const first = await watch.changes();
    const second = await watch.changes();
    expect([first.previousRevision, second.previousRevision]).toEqual([revision, first.revision]);
    expect(second.revision).toBe(last);
  });

  test("starts over where the worker's revision is compacted, or of another history", async () => {
    const tenant = await hosted(13);
    const { revision } = await open().snapshot();
    const personas = await tenant.personas();
    await personas.activatePersona({ name: tenant.persona("host") });
    await personas.deactivatePersona({ parent: tenant.name });
    await registry.database.owner.pool.query(
      "BEGIN; SET LOCAL session_replication_role = replica; UPDATE registry.changes SET created_at = now() - interval '2 days'; COMMIT",
    );
    await compact(registry.database.watch.db, { seconds: 3600, changes: 1 });
    // Another replica: this one still has them in memory.
    const other = await registry.replica();
    const client = await registry.service(DistributionService, "inference", other);
    expect((await open({ resume: revision }, client).snapshot()).revision).toBeGreaterThan(revision);
    expect((await open({ resume: 1_000_000_000n }, client).snapshot()).revision).toBeLessThan(1_000_000_000n);
    await other.close();
  });

  test("tells of nothing that is another model's", async () => {
    const tenant = await hosted(14);
    await (await tenant.personas()).activatePersona({ name: tenant.persona("host") });
    const watch = open({ model: "e".repeat(64), worker: "worker-other" });
    const { changes } = await watch.snapshot();
    expect(about(changes, tenant)).toMatchObject([{ case: "tenantState", value: {} }]);
    for (const state of about(changes, tenant)) expect(state.value).not.toHaveProperty("active");
    await (await tenant.personas()).deactivatePersona({ parent: tenant.name });
    const told = await watch.until(
      (event) => event.case === "changes" && about(event.value.changes, tenant).some((it) => it.case === "tenantState"),
    );
    if (told.case === "changes")
      for (const state of about(told.value.changes, tenant)) {
        expect(state.value).not.toHaveProperty("active");
      }
  });

  test("has a bookmark where nothing happens", async () => {
    const watch = open();
    const { revision } = await watch.snapshot();
    const event = await watch.until((it) => it.case !== "changes");
    expect(event.case).toBe("bookmark");
    if (event.case === "bookmark") expect(event.value.revision).toBeGreaterThanOrEqual(revision);
  });

  test("ends with the revision to go on from when its replica shuts down, and not only after the drain", async () => {
    const replica = await registry.replica({ drainSeconds: 30 });
    const watch = open({ worker: "worker-drained" }, await registry.service(DistributionService, "inference", replica));
    const { revision } = await watch.snapshot();
    const closing = replica.close();
    const last: WatchResponse["event"][] = [];
    const reason = await (async () => {
      for (;;) last.push(await watch.next());
    })().catch((error: unknown) => ClientError.from(error).reason);
    expect(reason).toBe("DRAINING");
    expect(last.at(-1)).toMatchObject({ case: "bookmark" });
    const event = last.at(-1);
    if (event?.case === "bookmark") expect(event.value.revision).toBeGreaterThanOrEqual(revision);
    await closing;
  });

  test("is for workers alone", async () => {
    const user = await registry.client(DistributionService, { roles: ["service"] });
    const calibrator = await registry.service(DistributionService, "calibrator");
    for (const client of [user, calibrator]) {
      await expect(open({}, client).next()).rejects.toMatchObject({ reason: "PERMISSION_DENIED" });
    }
  });

  test.each([
    [{ model: "nonsense" }, "model_checksum"],
    [{ worker: "" }, "worker"],
    [{ worker: "a b" }, "worker"],
    [{ worker: "x".repeat(129) }, "worker"],
  ])("refuses %j", async (options, field) => {
    await expect(open(options).next()).rejects.toMatchObject({
      reason: "INVALID_ARGUMENT",
      fieldViolations: [{ field }],
    });
  });
});

test("a large snapshot comes in parts, an empty one in one", () => {
  const change = create(ChangeSchema, {
    tenant: "acme",
    state: { case: "personaState", value: { name: `tenants/acme/personas/${"x".repeat(1000)}` } },
  });
  const parts = [...partsOf(Array.from({ length: 3000 }, () => change))];
  expect(parts.map(({ last }) => last)).toEqual([false, false, true]);
  expect(parts.reduce((sum, { changes }) => sum + changes.length, 0)).toBe(3000);
  for (const { changes } of parts) {
    expect(changes.reduce((sum, it) => sum + toBinary(ChangeSchema, it).length, 0)).toBeLessThan(2 << 20);
  }
  expect([...partsOf([])]).toEqual([{ changes: [], last: true }]);
});

describe("bytes", () => {
  const fetchAll = async (keys: readonly { tenant: string; digest: string }[]) => {
    const found: { digest: string; bytes: number }[] = [];
    for await (const { key, content } of worker.fetchVersions({
      modelChecksum: model,
      worker: "worker-0",
      versions: [...keys],
    })) {
      found.push({ digest: key?.digest ?? "", bytes: content.length });
    }
    return found;
  };
  const digestOf = (version: string) => version.split("/").at(-1) as string;

  test("come in the order of the request, each read in the audit, and none that are revoked, unknown or another tenant's", async () => {
    const tenant = await registry.tenant(21, 22);
    const other = await registry.tenant(23);
    const [first, second] = [digestOf(tenant.version(21)), digestOf(tenant.version(22))];
    const foreign = digestOf(other.version(23));
    const revoked = await (await tenant.vectors()).revokeVersion({ name: tenant.version(22), reason: "it insults" });
    expect(revoked.revision).toBeGreaterThan(0n);
    const asked = [second, first, foreign, "0".repeat(64)].map((digest) => ({ tenant: tenant.id, digest }));
    const found = await fetchAll(asked);
    expect(found.map(({ digest }) => digest)).toEqual(asked.map(({ digest }) => digest));
    expect(found.map(({ bytes }) => bytes > 0)).toEqual([false, true, false, false]);

    const audit = await registry.client(AuditService, { tenant: tenant.id, roles: ["approver"] });
    const { entries } = await audit.listAuditEntries({ parent: tenant.name, chain: AuditChain.READS });
    const reads = entries.flatMap(({ payload }) => (JSON.parse(payload) as { reads: unknown[] }).reads);
    expect(reads).toMatchObject([
      { digest: first, actor: expect.stringContaining("/sa/inference"), purpose: "served by worker-0" },
    ]);
  });

  test("are not asked for by the thousand, or under names that are none", async () => {
    const key = { tenant: "acme", digest: "0".repeat(64) };
    expect(await outcome(fetchAll(Array.from({ length: 257 }, () => key)))).toBe("INVALID_ARGUMENT");
    expect(await outcome(fetchAll([{ ...key, digest: "x" }]))).toBe("INVALID_ARGUMENT");
    expect(await outcome(fetchAll([{ ...key, tenant: "../acme" }]))).toBe("INVALID_ARGUMENT");
  });
});

describe("the distribution", () => {
  test("says which workers have a revision, which watch now, and a tenant's own problems", async () => {
    const [one, two] = [await registry.tenant(31), await registry.tenant(32)];
    const watch = open({ worker: "worker-a" });
    const { revision } = await watch.snapshot();
    const problem = { resource: one.persona("host"), reason: "MODEL_MISMATCH", message: "of another model" };
    await worker.reportWorker({
      worker: "worker-a",
      modelChecksum: model,
      state: WorkerState.READY,
      appliedRevision: revision,
      problems: [
        { ...problem, tenant: one.id },
        { ...problem, tenant: two.id },
      ],
    });
    await worker.reportWorker({
      worker: "worker-b",
      modelChecksum: model,
      state: WorkerState.STALE,
      appliedRevision: revision - 1n,
    });
    const distribution = await registry.client(DistributionService, { tenant: one.id, roles: ["viewer"] });
    const shown = async () => {
      const { workers } = await distribution.getDistribution({ parent: one.name, revision, modelChecksum: model });
      return workers
        .filter(({ worker: name }) => name === "worker-a" || name === "worker-b")
        .map(({ worker: name, reached, connected, problems }) => ({
          name,
          reached,
          connected,
          problems: problems.map(({ tenant }) => tenant),
        }));
    };
    await expect.poll(shown).toEqual([
      { name: "worker-a", reached: true, connected: true, problems: [one.id] },
      { name: "worker-b", reached: false, connected: false, problems: [] },
    ]);
    watch.stop.abort();
    await expect.poll(async () => (await shown())[0]?.connected).toBe(false);
    expect(await outcome(distribution.getDistribution({ parent: two.name }))).toBe("RESOURCE_NOT_FOUND");
    const nobody = await registry.client(DistributionService, { tenant: "never-made", roles: ["viewer"] });
    expect(await outcome(nobody.getDistribution({ parent: "tenants/never-made" }))).toBe("RESOURCE_NOT_FOUND");
    const personas = await registry.client(PersonaService, { tenant: one.id });
    expect(await outcome(personas.listPersonas({ parent: two.name }))).toBe("RESOURCE_NOT_FOUND");
  });

  test.each([
    [{ state: WorkerState.UNSPECIFIED }, "state"],
    [{ state: 99 as WorkerState }, "state"],
    [{ appliedRevision: 2n ** 64n - 1n }, "applied_revision"],
    [{ problems: Array.from({ length: 101 }, () => ({})) }, "problems"],
  ])("refuses a report with %s", async (wrong, field) => {
    const report = { worker: "worker-c", modelChecksum: model, state: WorkerState.READY, ...wrong };
    await expect(worker.reportWorker(report)).rejects.toMatchObject({
      reason: "INVALID_ARGUMENT",
      fieldViolations: [{ field }],
    });
  });
});
