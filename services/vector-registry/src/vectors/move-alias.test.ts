import { ApprovalDecision, TenantService, VersionState } from "@persona-mesh/protocol/registry";
import { sql } from "kysely";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { RunningRegistry } from "../start-registry.ts";
import {
  type GovernedRegistry,
  type GovernedTenant,
  openGovernedRegistry,
  outcome,
  refusal,
} from "../testing/governed-registry.ts";
import * as rows from "../testing/governed-rows.ts";
import { digestOfDatabase } from "../testing/whole-database.ts";

let registry: GovernedRegistry;
let other: RunningRegistry;

beforeAll(async () => {
  registry = await openGovernedRegistry();
  other = await registry.replica();
});
afterAll(() => registry.close());

async function point(tenant: GovernedTenant, alias: string, seed: number, more: object = {}) {
  const vectors = await tenant.vectors();
  return vectors.setAlias({ alias: { name: tenant.alias(alias), version: tenant.version(seed) }, ...more });
}

async function approve(tenant: GovernedTenant, seed: number): Promise<void> {
  const approvals = await tenant.approvals("bob");
  await approvals.createApproval({
    parent: tenant.name,
    version: tenant.version(seed),
    decision: ApprovalDecision.APPROVE,
  });
}

async function targets(tenant: GovernedTenant, alias: string): Promise<[number, string][]> {
  const vectors = await tenant.vectors();
  const { targets: found } = await vectors.listAliasTargets({ parent: tenant.alias(alias) });
  return found.map(({ number, version }) => [number, version]);
}

async function follow(tenant: GovernedTenant, alias: string, personaId = "sunny") {
  const personas = await tenant.personas();
  const spec = { terms: [{ vector: tenant.alias(alias), alphaHundredths: 30 }] };
  await personas.createPersona({ parent: tenant.name, personaId, persona: { spec } });
}

describe("an alias", () => {
  test("goes where it is pointed, and keeps where it pointed", async () => {
    const tenant = await registry.tenant(1, 2);
    const vectors = await tenant.vectors();
    const first = await point(tenant, "canary", 1, { reason: "try" });
    expect(first).toMatchObject({
      alias: { version: tenant.version(1), reason: "try", updatedBy: "alice" },
      personaRevisions: [],
      revision: 0n,
    });
    await point(tenant, "canary", 2);
    expect(await targets(tenant, "canary")).toEqual([
      [2, tenant.version(2)],
      [1, tenant.version(1)],
    ]);
    const { version } = await vectors.getVersion({ name: tenant.alias("canary") });
    expect(version?.name).toBe(tenant.version(2));
  });

  test("is moved by one of two who saw the same, on different replicas", async () => {
    const tenant = await registry.tenant(1, 2, 3);
    const { alias } = await point(tenant, "canary", 1);
    const clients = await Promise.all(
      Array.from({ length: 6 }, (_, i) => tenant.vectors(`admin-${i}`, "admin", i % 2 === 0 ? other : undefined)),
    );
    const moves = clients.map((client, i) =>
      outcome(
        client.setAlias({
          alias: { name: tenant.alias("canary"), version: tenant.version(2 + (i % 2)), etag: alias?.etag ?? "" },
        }),
      ),
    );
    const outcomes = await Promise.all(moves);
    expect(outcomes.filter((it) => it === "accepted")).toHaveLength(1);
    expect(outcomes.filter((it) => it === "ETAG_MISMATCH")).toHaveLength(5);
    expect(await targets(tenant, "canary")).toHaveLength(2);
  });

  test("is made once by those who say that there must be none", async () => {
    const tenant = await registry.tenant(1);
    const clients = await Promise.all([tenant.vectors(), tenant.vectors("amy", "admin", other)]);
    const alias = { name: tenant.alias("canary"), version: tenant.version(1), etag: "0" };
    const outcomes = await Promise.all(clients.map((client) => outcome(client.setAlias({ alias }))));
    expect(outcomes.sort()).toEqual(["ETAG_MISMATCH", "accepted"]);
  });

  test("that was deleted and made again does not fit an etag from before", async () => {
    const tenant = await registry.tenant(1);
    const vectors = await tenant.vectors();
    const etag = (await point(tenant, "canary", 1)).alias?.etag ?? "";
    await vectors.deleteAlias({ name: tenant.alias("canary"), etag });
    expect(await outcome(vectors.getAlias({ name: tenant.alias("canary") }))).toBe("RESOURCE_NOT_FOUND");
    const alias = { name: tenant.alias("canary"), version: tenant.version(1), etag };
    expect(await outcome(vectors.setAlias({ alias }))).toBe("ETAG_MISMATCH");
    await point(tenant, "canary", 1);
    expect(await outcome(vectors.deleteAlias({ name: tenant.alias("canary"), etag }))).toBe("ETAG_MISMATCH");
    expect(await targets(tenant, "canary")).toHaveLength(2);
  });

  test("named production takes approval, or broken glass of an admin, and never what is revoked", async () => {
    const tenant = await registry.tenant(1, 2);
    expect(await outcome(point(tenant, "production", 1))).toBe("NOT_APPROVED");
    expect(await outcome(point(tenant, "canary", 1))).toBe("accepted");
    await approve(tenant, 1);
    await point(tenant, "production", 1);
    await point(tenant, "production", 2, { breakGlass: { justification: "outage" } });
    const vectors = await tenant.vectors();
    const { targets: found } = await vectors.listAliasTargets({ parent: tenant.alias("production") });
    expect(found.map(({ breakGlass }) => breakGlass)).toEqual([true, false]);
    expect(await outcome(point(tenant, "production", 2, { breakGlass: { justification: " " } }))).toBe(
      "INVALID_ARGUMENT",
    );
    const claims = { subject: "alice", tenant: tenant.id, roles: ["admin" as const] };
    const { tenants } = await (await registry.client(TenantService, claims)).listTenants({});
    expect(tenants.map(({ unreviewedBreakGlass }) => unreviewedBreakGlass)).toEqual([1]);
    await tenant.write(...rows.revoke(tenant.id, 1));
    const glass = { breakGlass: { justification: "outage" } };
    expect(await outcome(point(tenant, "production", 1, glass))).toBe("VERSION_REVOKED");
    expect(await outcome(point(tenant, "canary", 1))).toBe("VERSION_REVOKED");
  });

  test("takes along the personas that follow it", async () => {
    const tenant = await registry.tenant(1, 2);
    await point(tenant, "canary", 1);
    await follow(tenant, "canary");
    const moved = await point(tenant, "canary", 2);
    expect(moved.personaRevisions).toEqual([`${tenant.persona("sunny")}/revisions/2`]);
    const personas = await tenant.personas();
    const { revision } = await personas.getPersonaRevision({ name: moved.personaRevisions[0] ?? "" });
    expect(revision?.terms[0]?.version).toBe(tenant.version(2));
  });

  test("or its vector, is not taken from under those who use it", async () => {
    const tenant = await registry.tenant(1);
    const vectors = await tenant.vectors();
    const parent = `${tenant.name}/vectors/cheerful`;
    await point(tenant, "canary", 1);
    expect(await refusal(vectors.deleteVector({ name: parent }))).toMatchObject({
      reason: "RESOURCE_REFERENCED",
      message: expect.stringContaining(tenant.alias("canary")),
    });
    await follow(tenant, "canary");
    expect(await refusal(vectors.deleteAlias({ name: tenant.alias("canary") }))).toMatchObject({
      reason: "RESOURCE_REFERENCED",
      message: expect.stringContaining(tenant.persona("sunny")),
    });
    await (await tenant.personas()).deletePersona({ name: tenant.persona("sunny") });
    await vectors.deleteAlias({ name: tenant.alias("canary") });
    await vectors.deleteVector({ name: parent });
    expect(await outcome(point(tenant, "canary", 1))).toBe("RESOURCE_DELETED");
    await vectors.undeleteVector({ name: parent });
    expect(await outcome(point(tenant, "canary", 1))).toBe("accepted");
  });

  test("points at versions of its own vector alone, and bad names are refused as such", async () => {
    const tenant = await registry.tenant(1);
    const vectors = await tenant.vectors();
    const version = tenant.version(1);
    const name = tenant.alias("canary");
    const bad = [
      vectors.setAlias({}),
      vectors.setAlias({ alias: { name, version: "" } }),
      vectors.setAlias({ alias: { name, version: version.replace("cheerful", "calm") } }),
      vectors.setAlias({ alias: { name: `${name}\0`, version } }),
      vectors.setAlias({ alias: { name, version }, reason: "x".repeat(1025) }),
      vectors.listAliasTargets({ parent: name, pageSize: 1001 }),
      vectors.listAliases({ parent: name }),
      vectors.rollbackAlias({ name: version }),
    ];
    expect(await Promise.all(bad.map(outcome))).toEqual(bad.map(() => "INVALID_ARGUMENT"));
    expect(await outcome(vectors.setAlias({ alias: { name, version: tenant.version(2) } }))).toBe("RESOURCE_NOT_FOUND");
  });
});

describe("rolling back", () => {
  test("returns to any earlier target in one call", async () => {
    const tenant = await registry.tenant(1, 2, 3);
    const vectors = await tenant.vectors("olga", "operator");
    const name = tenant.alias("canary");
    for (const seed of [1, 2, 3, 3]) await point(tenant, "canary", seed);
    expect((await vectors.rollbackAlias({ name })).alias?.version).toBe(tenant.version(2));
    expect((await vectors.rollbackAlias({ name, target: 1, reason: "worse" })).alias).toMatchObject({
      version: tenant.version(1),
      reason: "worse",
      updatedBy: "olga",
    });
    expect(await targets(tenant, "canary")).toHaveLength(6);
    for (const target of [7, 2 ** 32 - 1]) {
      expect(await outcome(vectors.rollbackAlias({ name, target }))).toBe("RESOURCE_NOT_FOUND");
    }
  });

  test("passes over what is revoked, and refuses it where it is asked for", async () => {
    const tenant = await registry.tenant(1, 2, 3);
    const vectors = await tenant.vectors();
    const name = tenant.alias("canary");
    for (const seed of [1, 2, 3]) await point(tenant, "canary", seed);
    await tenant.write(...rows.revoke(tenant.id, 2));
    expect(await outcome(vectors.rollbackAlias({ name, target: 2 }))).toBe("VERSION_REVOKED");
    expect((await vectors.rollbackAlias({ name })).alias?.version).toBe(tenant.version(1));
  });

  test("with nowhere to go is refused", async () => {
    const tenant = await registry.tenant(1);
    await point(tenant, "canary", 1);
    const vectors = await tenant.vectors();
    expect(await outcome(vectors.rollbackAlias({ name: tenant.alias("canary") }))).toBe("RESOURCE_NOT_FOUND");
    expect(await outcome(vectors.rollbackAlias({ name: tenant.alias("beta") }))).toBe("RESOURCE_NOT_FOUND");
  });
});

describe("revoking a version", () => {
  test("waits for nobody where it is forced, tells workers, and says who still refers to it", async () => {
    const tenant = await registry.tenant(1);
    await point(tenant, "canary", 1);
    await follow(tenant, "canary");
    const vectors = await tenant.vectors("bob", "approver");
    const referrers = [tenant.alias("canary"), tenant.persona("sunny")];
    const request = { name: tenant.version(1), reason: "unsafe" };
    const refused = await refusal(vectors.revokeVersion(request));
    expect(refused?.reason).toBe("RESOURCE_REFERENCED");
    for (const referrer of referrers) expect(refused?.message).toContain(referrer);
    const { version, revision, referrers: named } = await vectors.revokeVersion({ ...request, force: true });
    expect(version).toMatchObject({
      state: VersionState.REVOKED,
      revocation: { reason: "unsafe", revokedBy: "bob", revision },
    });
    expect(named).toEqual(referrers);
    const { rows: changes } = await sql<{ model_checksum: string }>`
      SELECT model_checksum FROM registry.changes WHERE revision = ${revision}`.execute(registry.database.owner.db);
    expect(changes).toEqual([{ model_checksum: rows.MODEL_CHECKSUM }]);
  });

  test("again gives the same answer, also at once on two replicas", async () => {
    const tenant = await registry.tenant(1);
    const clients = await Promise.all([tenant.vectors(), tenant.vectors("bob", "approver", other)]);
    const request = { name: tenant.version(1), reason: "unsafe" };
    const answers = await Promise.all(clients.map((client) => client.revokeVersion(request)));
    expect(answers[0]).toEqual(answers[1]);
    expect(await clients[0]?.revokeVersion({ ...request, reason: "still" })).toEqual(answers[0]);
  });

  test("revokes its bytes under every vector of the tenant, and of no other", async () => {
    const [tenant, neighbour] = [await registry.tenant(1), await registry.tenant(1)];
    const vectors = await tenant.vectors();
    await vectors.createVector({ parent: tenant.name, vectorId: "copy" });
    const { version: copy } = await vectors.publishVersion({
      parent: `${tenant.name}/vectors/copy`,
      content: rows.vectorBytes(1),
    });
    await vectors.revokeVersion({ name: tenant.version(1), reason: "unsafe" });
    const states = await Promise.all([
      vectors.getVersion({ name: copy?.name ?? "" }),
      (await neighbour.vectors()).getVersion({ name: neighbour.version(1) }),
    ]);
    expect(states.map(({ version }) => version?.state)).toEqual([VersionState.REVOKED, VersionState.ACTIVE]);
  });
});

test("moves that are refused write nothing", async () => {
  const tenant = await registry.tenant(1, 2);
  await point(tenant, "canary", 1);
  const vectors = await tenant.vectors();
  const before = await digestOfDatabase(registry.database.owner);
  await outcome(point(tenant, "production", 1));
  await outcome(vectors.setAlias({ alias: { name: tenant.alias("canary"), version: tenant.version(2), etag: "zz" } }));
  await outcome(vectors.revokeVersion({ name: tenant.version(1), reason: "unsafe" }));
  await outcome(vectors.rollbackAlias({ name: tenant.alias("canary") }));
  expect(await digestOfDatabase(registry.database.owner)).toBe(before);
});
