import { fromBinary } from "@bufbuild/protobuf";
import { ApprovalDecision, AuditService, ChangeSchema } from "@persona-mesh/protocol/registry";
import { sql } from "kysely";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  type GovernedRegistry,
  type GovernedTenant,
  openGovernedRegistry,
  outcome,
  refusal,
} from "../testing/governed-registry.ts";
import * as rows from "../testing/governed-rows.ts";

let registry: GovernedRegistry;

beforeAll(async () => {
  registry = await openGovernedRegistry();
});
afterAll(() => registry.close());

/** A tenant whose persona "sunny" has seed 1 at 0.3. */
async function sunny(...approvers: string[]): Promise<GovernedTenant> {
  const tenant = await registry.tenant(1, 2);
  await (await tenant.personas()).createPersona({
    parent: tenant.name,
    personaId: "sunny",
    persona: { spec: { terms: [{ vector: tenant.version(1), alphaHundredths: 30 }] } },
  });
  for (const approver of approvers) await approve(tenant, 1, approver);
  return tenant;
}

async function approve(tenant: GovernedTenant, seed: number, approver = "bob") {
  const approvals = await tenant.approvals(approver);
  const decision = ApprovalDecision.APPROVE;
  return approvals.createApproval({ parent: tenant.name, version: tenant.version(seed), decision });
}

async function respec(tenant: GovernedTenant, seed: number, alphaHundredths: number) {
  const personas = await tenant.personas();
  const spec = { terms: [{ vector: tenant.version(seed), alphaHundredths }] };
  return personas.updatePersona({ persona: { name: tenant.persona("sunny"), spec } });
}

async function persona(tenant: GovernedTenant) {
  return (await (await tenant.personas()).getPersona({ name: tenant.persona("sunny") })).persona;
}

async function activate(tenant: GovernedTenant, more: object = {}, role: "operator" | "admin" = "operator") {
  const personas = await tenant.personas("olga", role);
  return personas.activatePersona({ name: tenant.persona("sunny"), ...more });
}

const revision = (tenant: GovernedTenant, number: number) => `${tenant.persona("sunny")}/revisions/${number}`;

describe("what workers serve by name", () => {
  test("is the newest revision that is approved; an older one stays in force until then", async () => {
    const tenant = await sunny();
    expect((await persona(tenant))?.releasedRevision).toBe("");
    const approved = await approve(tenant, 1);
    expect(approved.releasedRevisions).toEqual([revision(tenant, 1)]);
    expect(approved.revision).toBeGreaterThan(0n);
    await respec(tenant, 2, 20);
    expect((await persona(tenant))?.releasedRevision).toBe(revision(tenant, 1));
    await respec(tenant, 1, 20);
    expect((await persona(tenant))?.releasedRevision).toBe(revision(tenant, 3));
    // The second revision is approved now, but no longer the newest.
    expect(await approve(tenant, 2)).toMatchObject({ releasedRevisions: [], revision: 0n });
  });

  test("is told under the revision that the approval gives", async () => {
    const tenant = await sunny();
    const { revision: told } = await approve(tenant, 1);
    const { rows: changes } = await sql<{ body: Uint8Array }>`
      SELECT body FROM registry.changes WHERE revision = ${told}`.execute(registry.database.owner.db);
    const [change, ...others] = changes.map(({ body }) => fromBinary(ChangeSchema, body));
    expect(others).toEqual([]);
    expect(change?.tenant).toBe(tenant.id);
    expect(change?.state).toMatchObject({
      case: "personaState",
      value: {
        name: tenant.persona("sunny"),
        released: { number: 1, digest: expect.stringMatching(/^[0-9a-f]{64}$/) },
      },
    });
  });
});

describe("the persona switch", () => {
  test("is refused with everything that stands in the way, and with what break-glass cannot skip first", async () => {
    const tenant = await sunny();
    const refused = await refusal(activate(tenant));
    expect(refused?.reason).toBe("NOT_APPROVED");
    expect(refused?.rawMessage).toContain(`term 1: version ${rows.digestOf(1)} has 0 of 1 approvals`);
    await tenant.write(
      rows.evaluate(tenant.id, 1, -10, 10, 2),
      sql`UPDATE tenants SET alpha_cap_hundredths = 20 WHERE tenant = ${tenant.id}`,
    );
    const more = await refusal(activate(tenant, { breakGlass: { justification: "outage" } }, "admin"));
    expect(more?.reason).toBe("ALPHA_NOT_VALIDATED");
    expect(more?.metadata["findings"]).toBe("4");
    for (const reason of ["NOT_APPROVED", "ALPHA_OVER_CAP", "DOSE_OVER_BUDGET"]) {
      expect(more?.rawMessage).toContain(`[${reason}]`);
    }
  });

  test("takes any revision whose gate is empty, an earlier one too, and keeps a history", async () => {
    const tenant = await sunny("bob");
    await respec(tenant, 1, 20);
    const first = await activate(tenant, { reason: "launch" });
    expect(first.tenant?.activePersona).toMatchObject({
      revision: revision(tenant, 2),
      activatedBy: "olga",
      reason: "launch",
    });
    const back = await activate(tenant, { revision: 1 });
    expect(back.revision).toBeGreaterThan(first.revision);
    expect((await persona(tenant))?.activeRevision).toBe(revision(tenant, 1));
    // Again is no change, and needs no approval that has run out meanwhile.
    await tenant.age();
    const again = await activate(tenant, { revision: 1 });
    expect([again.revision >= back.revision, again.tenant?.etag]).toEqual([true, back.tenant?.etag]);
    expect(await outcome(activate(tenant, { revision: 2 }))).toBe("NOT_APPROVED");

    const personas = await tenant.personas("olga", "operator");
    expect(
      await outcome(personas.deactivatePersona({ parent: tenant.name, tenantEtag: first.tenant?.etag ?? "" })),
    ).toBe("ETAG_MISMATCH");
    const none = await personas.deactivatePersona({ parent: tenant.name, tenantEtag: back.tenant?.etag ?? "" });
    expect(none.tenant?.activePersona).toBeUndefined();
    const page = await personas.listActivations({ parent: tenant.name, pageSize: 2 });
    const rest = await personas.listActivations({ parent: tenant.name, pageToken: page.nextPageToken });
    expect([...page.activations, ...rest.activations].map(({ revision: active }) => active)).toEqual([
      "",
      revision(tenant, 1),
      revision(tenant, 2),
    ]);
  });

  test("is written down also where it changes nothing, for activating and for deactivating", async () => {
    const tenant = await sunny("bob");
    const personas = await tenant.personas("olga", "operator");
    for (const _ of ["first", "again"]) await personas.activatePersona({ name: tenant.persona("sunny") });
    for (const _ of ["first", "again"]) await personas.deactivatePersona({ parent: tenant.name });
    const audit = await registry.client(AuditService, { subject: "ines", tenant: tenant.id, roles: ["approver"] });
    const { entries } = await audit.listAuditEntries({ parent: tenant.name, actor: "olga" });
    expect(entries.map(({ payload }) => (JSON.parse(payload) as { action: string }).action).toReversed()).toEqual([
      "ActivatePersona",
      "ActivatePersonaAgain",
      "DeactivatePersona",
      "DeactivatePersonaAgain",
    ]);
  });

  test("changes nothing with validate_only, and names revisions that are there", async () => {
    const tenant = await sunny("bob");
    const tried = await activate(tenant, { validateOnly: true });
    expect(tried.tenant?.activePersona?.revision).toBe(revision(tenant, 1));
    expect((await persona(tenant))?.activeRevision).toBe("");
    expect(await outcome(activate(tenant, { revision: 2 }))).toBe("RESOURCE_NOT_FOUND");
    expect(await outcome(activate(tenant, { revision: 2 ** 32 - 1 }))).toBe("INVALID_ARGUMENT");
    expect(await outcome(activate(tenant, { name: tenant.persona("rainy") }))).toBe("RESOURCE_NOT_FOUND");
    const viewer = await tenant.personas("victor", "viewer");
    expect(await outcome(viewer.activatePersona({ name: tenant.persona("sunny") }))).toBe("PERMISSION_DENIED");
  });

  test("keeps its persona from being deleted, and deleted ones from being active", async () => {
    const tenant = await sunny("bob");
    await activate(tenant);
    const personas = await tenant.personas();
    const name = tenant.persona("sunny");
    expect(await outcome(personas.deletePersona({ name }))).toBe("PERSONA_ACTIVE");
    await personas.deactivatePersona({ parent: tenant.name });
    await personas.deletePersona({ name });
    expect(await outcome(activate(tenant))).toBe("RESOURCE_DELETED");
  });

  test("breaks the glass for admins alone, loudly, and waits for a second person", async () => {
    const tenant = await sunny();
    const breakGlass = { justification: "the old persona insults people" };
    expect(await outcome(activate(tenant, { breakGlass }, "operator"))).toBe("PERMISSION_DENIED");
    expect(await outcome(activate(tenant, { breakGlass: { justification: " " } }, "admin"))).toBe("INVALID_ARGUMENT");
    const active = await activate(tenant, { breakGlass }, "admin");
    expect(active.tenant?.unreviewedBreakGlass).toBe(1);
    expect(
      registry
        .log()
        .some(({ msg, resource }) => String(msg).startsWith("break-glass") && resource === tenant.persona("sunny")),
    ).toBe(true);
    // Under its own name nobody is served what is not approved.
    expect((await persona(tenant))?.releasedRevision).toBe("");

    const olga = await tenant.approvals("olga");
    const { uses } = await olga.listBreakGlassUses({ parent: tenant.name, unreviewedOnly: true });
    expect(uses).toMatchObject([
      { action: "ActivatePersona", resource: tenant.persona("sunny"), actor: "olga", ...breakGlass },
    ]);
    const name = uses[0]?.name ?? "";
    const bob = await tenant.approvals("bob");
    expect(await outcome(olga.reviewBreakGlassUse({ name, accepted: true, note: "fine" }))).toBe("SELF_REVIEW");
    expect(await outcome(bob.reviewBreakGlassUse({ name, accepted: true }))).toBe("INVALID_ARGUMENT");
    const { use } = await bob.reviewBreakGlassUse({ name, accepted: false, note: "could have waited" });
    expect(use?.review).toMatchObject({ reviewer: "bob", accepted: false, note: "could have waited" });
    expect(await outcome(bob.reviewBreakGlassUse({ name, accepted: true, note: "again" }))).toBe("ALREADY_REVIEWED");
    expect((await bob.listBreakGlassUses({ parent: tenant.name, unreviewedOnly: true })).uses).toEqual([]);
  });

  test("asks for approval anew where a range was widened after it", async () => {
    const tenant = await registry.tenant(1);
    await tenant.write(rows.evaluate(tenant.id, 1, -10, 10, 2));
    await approve(tenant, 1);
    await tenant.write(rows.evaluate(tenant.id, 1, -50, 50, 3));
    await (await tenant.personas()).createPersona({
      parent: tenant.name,
      personaId: "sunny",
      persona: { spec: { terms: [{ vector: tenant.version(1), alphaHundredths: 30 }] } },
    });
    const refused = await refusal(activate(tenant));
    expect(refused?.rawMessage).toContain("0 of 1 approvals that were given when alpha 0.30 was validated");
    await respec(tenant, 1, 10);
    expect((await persona(tenant))?.releasedRevision).toBe(revision(tenant, 2));
    expect((await approve(tenant, 1, "carol")).releasedRevisions).toEqual([]);
    await activate(tenant, { revision: 1 });
  });

  test("is refused for a model that is not registered any more", async () => {
    const tenant = await sunny("bob");
    const { database } = registry;
    const setDeleted = (at: string | null) =>
      rows.actAs(database.service, "platform", [sql`UPDATE models SET deleted_at = ${at}::timestamptz`]);
    await setDeleted("2026-01-01");
    try {
      expect(await outcome(activate(tenant))).toBe("MODEL_NOT_FOUND");
    } finally {
      await setDeleted(null);
    }
    await activate(tenant);
  });

  test("is the database's to refuse, whatever the service does", async () => {
    const tenant = await sunny();
    const attempt = async (...statements: Parameters<GovernedTenant["write"]>) =>
      tenant.write(...statements).then(
        () => "accepted",
        (error: { readonly constraint?: string }) => error.constraint,
      );
    expect(await attempt(...rows.activate(tenant.id, "sunny"))).toBe("NOT_APPROVED");
    const release = sql`UPDATE personas SET released = 1 WHERE tenant = ${tenant.id}`;
    expect(await attempt(release)).toBe("NOT_APPROVED");
    expect(await attempt(rows.approve(tenant.id, 1, "alice"))).toBe("SELF_APPROVAL");
    await tenant.write(sql`UPDATE tenants SET alpha_cap_hundredths = 20 WHERE tenant = ${tenant.id}`);
    expect(await attempt(rows.approve(tenant.id, 1, "bob"), ...rows.activate(tenant.id, "sunny"))).toBe(
      "ALPHA_OVER_CAP",
    );
    await tenant.write(sql`UPDATE tenants SET alpha_cap_hundredths = NULL WHERE tenant = ${tenant.id}`);
    expect(await attempt(rows.approve(tenant.id, 1, "bob"), ...rows.activate(tenant.id, "sunny"), release)).toBe(
      "accepted",
    );
    const remove = sql`UPDATE personas SET deleted_at = now() WHERE tenant = ${tenant.id}`;
    expect(await attempt(remove)).toBe("PERSONA_ACTIVE");
  });
});
