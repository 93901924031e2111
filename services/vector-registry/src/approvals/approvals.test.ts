import { ApprovalDecision } from "@persona-mesh/protocol/registry";
import { sql } from "kysely";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Transactor } from "../database/transaction.ts";
import {
  type GovernedRegistry,
  type GovernedTenant,
  openGovernedRegistry,
  outcome,
} from "../testing/governed-registry.ts";
import * as rows from "../testing/governed-rows.ts";
import { approvalSummary } from "./approval-summary.ts";

const { APPROVE, REJECT, UNSPECIFIED } = ApprovalDecision;

let registry: GovernedRegistry;

beforeAll(async () => {
  registry = await openGovernedRegistry();
});
afterAll(() => registry.close());

async function decide(
  tenant: GovernedTenant,
  approver: string,
  decision: ApprovalDecision = APPROVE,
  more: object = {},
) {
  const approvals = await tenant.approvals(approver);
  return approvals.createApproval({ parent: tenant.name, version: tenant.version(1), decision, ...more });
}

/** How the version of seed 1 stands, by the name of its state. */
async function summary(tenant: GovernedTenant) {
  const caller = { subject: "x", tenant: tenant.id, roles: new Set() };
  const transactor = new Transactor(registry.database.service.db);
  const key = { tenant: tenant.id, vector: "cheerful", digest: rows.digestOf(1) };
  const read = await transactor.read({ caller } as never, tenant.id, "x", (db) => approvalSummary(db, key));
  const state = ["UNSPECIFIED", "PENDING", "APPROVED", "REJECTED"][read.state ?? 0];
  return { state, approvals: read.approvals, required: read.required, expires: read.expireTime !== undefined };
}

const require = (tenant: GovernedTenant, approvals: number) =>
  tenant.write(sql`UPDATE tenants SET required_approvals = ${approvals} WHERE tenant = ${tenant.id}`);

describe("approving a version", () => {
  test("is not for whoever made the same bytes under another vector", async () => {
    const tenant = await registry.tenant(1);
    const vectors = await tenant.vectors("dave");
    await vectors.createVector({ parent: tenant.name, vectorId: "copy" });
    const { version } = await vectors.publishVersion({
      parent: `${tenant.name}/vectors/copy`,
      content: rows.vectorBytes(1),
    });
    const approve = async (approver: string) =>
      (await tenant.approvals(approver)).createApproval({
        parent: tenant.name,
        version: version?.name ?? "",
        decision: APPROVE,
      });
    expect(await outcome(approve("alice"))).toBe("SELF_APPROVAL");
    expect(await outcome(approve("dave"))).toBe("SELF_APPROVAL");
    expect(await outcome(approve("bob"))).toBe("accepted");
  });

  test("takes as many people as the policy says, none of them twice and none who made it", async () => {
    const tenant = await registry.tenant(1);
    await require(tenant, 2);
    expect(await outcome(decide(tenant, "alice"))).toBe("SELF_APPROVAL");
    const { approval } = await decide(tenant, "bob", APPROVE, { reason: "heard it" });
    expect(approval).toMatchObject({
      version: tenant.version(1),
      approver: "bob",
      decision: APPROVE,
      reason: "heard it",
    });
    // A year, as the policy has it.
    expect(Number(approval?.expireTime?.seconds) - Number(approval?.createTime?.seconds)).toBe(31_536_000);
    expect(await outcome(decide(tenant, "bob"))).toBe("ALREADY_DECIDED");
    expect(await outcome(decide(tenant, "bob", REJECT))).toBe("ALREADY_DECIDED");
    expect(await summary(tenant)).toEqual({ state: "PENDING", approvals: 1, required: 2, expires: false });
    await decide(tenant, "carol");
    expect(await summary(tenant)).toEqual({ state: "APPROVED", approvals: 2, required: 2, expires: true });
    await require(tenant, 3);
    expect(await summary(tenant)).toMatchObject({ state: "PENDING", required: 3 });
  });

  test("counts neither who asked for the version, nor whom the policy does not name", async () => {
    const tenant = await registry.tenant();
    await tenant.write(
      rows.contentRow(tenant.id, rows.vectorBytes(1)),
      rows.versionRow(tenant.id, 1, { submitter: "spiffe://mesh/calibrator", requested_by: "bob" }),
      sql`UPDATE tenants SET approvers = ARRAY['bob', 'carol'] WHERE tenant = ${tenant.id}`,
    );
    expect(await outcome(decide(tenant, "bob"))).toBe("SELF_APPROVAL");
    expect(await outcome(decide(tenant, "dora"))).toBe("NOT_AN_APPROVER");
    await decide(tenant, "carol");
    // Who is not an approver any more does not count any more.
    await tenant.write(sql`UPDATE tenants SET approvers = ARRAY['dora'] WHERE tenant = ${tenant.id}`);
    expect(await summary(tenant)).toMatchObject({ state: "PENDING", approvals: 0 });
  });

  test("ends when it runs out, and can be given again", async () => {
    const tenant = await registry.tenant(1);
    await decide(tenant, "bob");
    await tenant.age();
    expect(await summary(tenant)).toMatchObject({ state: "PENDING", approvals: 0 });
    await decide(tenant, "bob");
    expect(await summary(tenant)).toMatchObject({ state: "APPROVED" });
    const { approvals } = await (await tenant.approvals("victor", "viewer")).listApprovals({ parent: tenant.name });
    expect(approvals).toHaveLength(2);
  });

  test("is for approvers alone, within their tenant, and names a version that is there", async () => {
    const tenant = await registry.tenant(1);
    const other = await registry.tenant(1);
    const admin = await tenant.approvals("zoe", "admin");
    const request = { parent: tenant.name, version: tenant.version(1), decision: APPROVE };
    expect(await outcome(admin.createApproval(request))).toBe("PERMISSION_DENIED");
    for (const [more, reason] of [
      [{ decision: UNSPECIFIED }, "INVALID_ARGUMENT"],
      [{ decision: 7 }, "INVALID_ARGUMENT"],
      [{ reason: "x".repeat(1025) }, "INVALID_ARGUMENT"],
      [{ version: tenant.alias("production") }, "INVALID_ARGUMENT"],
      [{ version: tenant.version(2) }, "RESOURCE_NOT_FOUND"],
      [{ version: other.version(1) }, "RESOURCE_NOT_FOUND"],
      [{ parent: other.name, version: other.version(1) }, "RESOURCE_NOT_FOUND"],
    ] as const) {
      expect([more, await outcome(decide(tenant, "bob", APPROVE, more))]).toEqual([more, reason]);
    }
    await tenant.write(...rows.revoke(tenant.id, 1));
    expect(await outcome(decide(tenant, "bob"))).toBe("VERSION_REVOKED");
    expect(await outcome(decide(tenant, "bob", REJECT))).toBe("accepted");
  });

  test("tried with validate_only, or repeated, is there never or once", async () => {
    const tenant = await registry.tenant(1);
    await decide(tenant, "bob", APPROVE, { validateOnly: true });
    expect(await summary(tenant)).toMatchObject({ approvals: 0 });
    const first = await decide(tenant, "bob", APPROVE, { requestId: "r" });
    expect(await decide(tenant, "bob", APPROVE, { requestId: "r" })).toEqual(first);
    expect(await outcome(decide(tenant, "bob", REJECT, { requestId: "r" }))).toBe("REQUEST_ID_REUSED");
  });

  test("lists newest first, page by page, also of one version", async () => {
    const tenant = await registry.tenant(1);
    for (const person of ["bob", "carol", "dora"]) await decide(tenant, person);
    const approvals = await tenant.approvals();
    const list = { parent: tenant.name, version: tenant.version(1), pageSize: 2 };
    const first = await approvals.listApprovals(list);
    const second = await approvals.listApprovals({ ...list, pageToken: first.nextPageToken });
    const all = [...first.approvals, ...second.approvals];
    expect(all.map(({ approver }) => approver)).toEqual(["dora", "carol", "bob"]);
    expect(second.nextPageToken).toBe("");
    expect((await approvals.getApproval({ name: all[0]?.name ?? "" })).approval).toEqual(all[0]);
    const fingerprint = Buffer.from(first.nextPageToken, "base64url").toString().slice(0, 12);
    for (const key of ["", "9".repeat(18), `1/${"0".repeat(36)}`, "1/x'); --"]) {
      const pageToken = Buffer.from(fingerprint + key).toString("base64url");
      expect(await outcome(approvals.listApprovals({ ...list, pageToken }))).toBe("INVALID_ARGUMENT");
    }
  });
});

describe("a rejection", () => {
  test("blocks, however many approve, until it is withdrawn", async () => {
    const tenant = await registry.tenant(1);
    const { approval } = await decide(tenant, "carol", REJECT);
    await decide(tenant, "bob");
    expect(await summary(tenant)).toMatchObject({ state: "REJECTED", approvals: 1 });
    await (await tenant.personas()).createPersona({
      parent: tenant.name,
      personaId: "sunny",
      persona: { spec: { terms: [{ vector: tenant.version(1), alphaHundredths: 30 }] } },
    });
    const name = approval?.name ?? "";
    await (await tenant.approvals("carol")).revokeApproval({ name });
    expect(await summary(tenant)).toMatchObject({ state: "APPROVED" });
    const { persona } = await (await tenant.personas()).getPersona({ name: tenant.persona("sunny") });
    expect(persona?.releasedRevision).toBe(`${tenant.persona("sunny")}/revisions/1`);
  });

  test("is not withdrawn by who made the version, whatever the role, nor behind the service's back", async () => {
    const tenant = await registry.tenant(1);
    const { approval } = await decide(tenant, "carol", REJECT);
    const name = approval?.name ?? "";
    expect(await outcome((await tenant.approvals("alice", "admin")).revokeApproval({ name }))).toBe("SELF_APPROVAL");
    const raw = tenant.write(
      sql`UPDATE approvals SET revoked_at = now(), revoked_by = 'alice' WHERE tenant = ${tenant.id}`,
    );
    await expect(raw).rejects.toMatchObject({ constraint: "SELF_APPROVAL" });
    await (await tenant.approvals("zoe", "admin")).revokeApproval({ name });
    expect(await summary(tenant)).toMatchObject({ state: "PENDING" });
  });
});

describe("withdrawing an approval", () => {
  test("is its approver's, or an admin's, once", async () => {
    const tenant = await registry.tenant(1);
    const { approval } = await decide(tenant, "bob");
    const name = approval?.name ?? "";
    const etag = approval?.etag ?? "";
    expect(await outcome((await tenant.approvals("carol")).revokeApproval({ name }))).toBe("PERMISSION_DENIED");
    expect(await outcome((await tenant.approvals("bob")).revokeApproval({ name, etag: "zz" }))).toBe("ETAG_MISMATCH");
    const revoked = await (await tenant.approvals("alice", "admin")).revokeApproval({ name, etag, reason: "left us" });
    expect(revoked.approval).toMatchObject({ revokedBy: "alice", revokeTime: expect.anything() });
    const again = await (await tenant.approvals("bob")).revokeApproval({ name });
    expect(again.approval).toEqual(revoked.approval);
    expect(await summary(tenant)).toMatchObject({ state: "PENDING" });
    await decide(tenant, "bob");
    expect(await summary(tenant)).toMatchObject({ state: "APPROVED" });
  });
});
