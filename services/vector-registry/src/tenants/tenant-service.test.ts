import type { MessageInitShape } from "@bufbuild/protobuf";
import {
  type CreateTenantRequestSchema,
  DeploymentContext,
  ResourceState,
  TenantService,
} from "@persona-mesh/protocol/registry";
import type { RoleName } from "@persona-mesh/service";
import { sql } from "kysely";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { outcome, refusal } from "../testing/governed-registry.ts";
import { openTestRegistry, type TestRegistry } from "../testing/test-registry.ts";
import { digestOfDatabase } from "../testing/whole-database.ts";

let registry: TestRegistry;
let count = 0;

beforeAll(async () => {
  registry = await openTestRegistry();
});
afterAll(() => registry.close());

const platform = () => registry.client(TenantService, { subject: "operator", tenant: "platform", roles: ["admin"] });
const as = (tenant: string, ...roles: RoleName[]) =>
  registry.client(TenantService, { subject: `${roles.join("-")}@${tenant}`, tenant, roles });

async function make(tenant: MessageInitShape<typeof CreateTenantRequestSchema>["tenant"] = {}): Promise<string> {
  const tenantId = `acme-${++count}`;
  await (await platform()).createTenant({ tenantId, tenant });
  return tenantId;
}

async function audited(tenant: string): Promise<{ action: string; actor: string; before?: object; after?: object }[]> {
  const { rows } = await sql<{ payload: string }>`
    SELECT payload FROM registry.audit WHERE tenant = ${tenant} AND chain = 'CHANGES' ORDER BY sequence`.execute(
    registry.database.owner.db,
  );
  return rows.map(({ payload }) => JSON.parse(payload));
}

describe("a tenant", () => {
  test("is made by the platform, with the defaults of what is left out", async () => {
    const tenant = await make({ displayName: "Acme" });
    const { tenant: seen } = await (await as(tenant, "viewer")).getTenant({ name: `tenants/${tenant}` });
    expect(seen).toMatchObject({
      displayName: "Acme",
      context: DeploymentContext.CUSTOMER_FACING,
      policy: { requiredApprovals: 1, approvers: [], approvalLifetime: { seconds: 31_536_000n } },
      quotas: { maxVectors: 100, maxVersions: 1000, maxPersonas: 1000, maxStoredBytes: 1n << 30n },
      state: ResourceState.ACTIVE,
    });
    expect(seen?.alphaCapHundredths).toBeUndefined();
    expect(await outcome((await platform()).createTenant({ tenantId: tenant }))).toBe("RESOURCE_EXISTS");
    expect(await outcome((await as(tenant, "admin")).createTenant({ tenantId: "other" }))).not.toBe("accepted");
  });

  test("may not have a reserved or malformed id", async () => {
    const tenants = await platform();
    for (const tenantId of ["platform", "", "Acme", "a b", "a\0", "-a", "a-", "a".repeat(64), "tenants/acme"]) {
      expect(await outcome(tenants.createTenant({ tenantId }))).toBe("INVALID_ARGUMENT");
    }
  });

  test("is seen by its own people and the platform; to others it is as if it were not there", async () => {
    const [mine, theirs] = [await make(), await make()];
    const tenants = await as(mine, "admin");
    for (const name of [`tenants/${theirs}`, "tenants/nobody"]) {
      expect(await refusal(tenants.getTenant({ name }))).toMatchObject({
        reason: "RESOURCE_NOT_FOUND",
        metadata: { resource: name },
      });
      const change = tenants.updateTenant({ tenant: { name, displayName: "x" } });
      expect(await outcome(change)).toBe("RESOURCE_NOT_FOUND");
    }
    const own = await tenants.listTenants({});
    expect(own.tenants.map(({ name }) => name)).toEqual([`tenants/${mine}`]);
    const all = await (await platform()).listTenants({ pageSize: 1000 });
    const names = all.tenants.map(({ name }) => name);
    expect(names).toEqual(expect.arrayContaining([`tenants/${mine}`, `tenants/${theirs}`]));
  });

  test("is listed by page, each one once", async () => {
    for (let i = 0; i < 3; i++) await make();
    const tenants = await platform();
    const seen: string[] = [];
    let pageToken = "";
    do {
      const page = await tenants.listTenants({ pageSize: 2, pageToken });
      expect(page.tenants.length).toBeLessThanOrEqual(2);
      seen.push(...page.tenants.map(({ name }) => name));
      pageToken = page.nextPageToken;
    } while (pageToken !== "");
    expect(seen).toEqual([...new Set(seen)].sort());
    expect(seen.length).toBeGreaterThanOrEqual(3);
    expect(await outcome(tenants.listTenants({ pageSize: 1001 }))).toBe("INVALID_ARGUMENT");
  });
});

describe("who may change what", () => {
  const APPROVERS = [
    { context: DeploymentContext.INTERNAL },
    { alphaCapHundredths: 40 },
    { policy: { requiredApprovals: 2 } },
    { policy: { approvers: ["bob"] } },
    { policy: { stalenessLimit: { seconds: 60n } } },
  ];
  const PLATFORM = [{ quotas: { maxVectors: 5 } }, { quotas: { maxStoredBytes: 7n } }];
  const ADMIN = [{ displayName: "New" }];

  test("an admin names the tenant, an approver decides on strength and approval, the platform on quotas", async () => {
    const tenant = await make();
    const name = `tenants/${tenant}`;
    const callers = [
      { client: await as(tenant, "admin"), may: ADMIN },
      { client: await as(tenant, "approver"), may: APPROVERS },
      { client: await platform(), may: [...ADMIN, ...PLATFORM] },
    ];
    for (const { client, may } of callers) {
      for (const change of [...ADMIN, ...APPROVERS, ...PLATFORM]) {
        const expected = (may as object[]).includes(change) ? "accepted" : "PERMISSION_DENIED";
        expect([change, await outcome(client.updateTenant({ tenant: { name, ...change } }))]).toEqual([
          change,
          expected,
        ]);
      }
    }
  });

  test("a mixture is refused as a whole, with the path that is not the caller's", async () => {
    const tenant = await make();
    const name = `tenants/${tenant}`;
    const admin = await as(tenant, "admin");
    const mixed = { name, displayName: "New", alphaCapHundredths: 50 };
    expect(await refusal(admin.updateTenant({ tenant: mixed }))).toMatchObject({
      reason: "PERMISSION_DENIED",
      message: expect.stringContaining("an approver of the tenant"),
      metadata: { path: "alpha_cap_hundredths" },
    });
    expect((await admin.getTenant({ name })).tenant?.displayName).toBe("");
    for (const paths of [["policy"], ["quotas"], ["policy.required_approvals"]]) {
      expect(await outcome(admin.updateTenant({ tenant: { name }, updateMask: { paths } }))).toBe("PERMISSION_DENIED");
    }
  });

  test("what is out of its range is refused", async () => {
    const tenant = await make();
    const name = `tenants/${tenant}`;
    const approver = await as(tenant, "approver");
    const refused = [
      { context: 9 as DeploymentContext },
      { policy: { requiredApprovals: 11 } },
      { policy: { approvers: [""] } },
      { policy: { approvers: ["a\0"] } },
      { policy: { approvers: Array.from({ length: 101 }, (_, i) => `p${i}`) } },
      { policy: { approvalLifetime: { seconds: 3599n } } },
      { policy: { approvalLifetime: { seconds: 2n ** 62n } } },
      { policy: { stalenessLimit: { seconds: -1n } } },
      { policy: { stalenessLimit: { seconds: 5n, nanos: 1 } } },
    ].map((change) => outcome(approver.updateTenant({ tenant: { name, ...change } })));
    expect(await Promise.all(refused)).toEqual(refused.map(() => "INVALID_ARGUMENT"));
    for (const alphaCapHundredths of [51, 81, 2 ** 31, 2 ** 32 - 1]) {
      expect(["ALPHA_OVER_CAP", "INVALID_ARGUMENT"]).toContain(
        await outcome(approver.updateTenant({ tenant: { name, alphaCapHundredths } })),
      );
    }
    const admin = await as(tenant, "admin");
    for (const paths of [["name"], ["etag"], ["display_name\0"], ["policy.nonsense"], [""]]) {
      expect(await outcome(admin.updateTenant({ tenant: { name }, updateMask: { paths } }))).toBe("INVALID_ARGUMENT");
    }
    const quotas = { maxStoredBytes: 2n ** 64n - 1n };
    expect(await outcome((await platform()).updateTenant({ tenant: { name, quotas } }))).toBe("INVALID_ARGUMENT");
    expect(await outcome(admin.updateTenant({}))).toBe("INVALID_ARGUMENT");
  });

  test("a cap that would be over a narrower context stops the change of context", async () => {
    const tenant = await make({ context: DeploymentContext.INTERNAL, alphaCapHundredths: 70 });
    const name = `tenants/${tenant}`;
    const approver = await as(tenant, "approver");
    const narrow = { name, context: DeploymentContext.CUSTOMER_FACING };
    expect(await outcome(approver.updateTenant({ tenant: narrow }))).toBe("ALPHA_OVER_CAP");
    expect(await outcome(approver.updateTenant({ tenant: { ...narrow, alphaCapHundredths: 30 } }))).toBe("accepted");
    const paths = ["alpha_cap_hundredths"];
    const { tenant: cleared } = await approver.updateTenant({ tenant: { name }, updateMask: { paths } });
    expect(cleared?.alphaCapHundredths).toBeUndefined();
  });
});

describe("changes of a tenant", () => {
  test("of two who saw the same, one wins", async () => {
    const tenant = await make();
    const name = `tenants/${tenant}`;
    const clients = await Promise.all([as(tenant, "admin"), platform()]);
    const etag = (await clients[0]?.getTenant({ name }))?.tenant?.etag ?? "";
    const outcomes = await Promise.all(
      clients.map((client, i) => outcome(client.updateTenant({ tenant: { name, etag, displayName: `name ${i}` } }))),
    );
    expect(outcomes.sort()).toEqual(["ETAG_MISMATCH", "accepted"]);
  });

  test("are in its own chain, also those by the platform, with what was and what became", async () => {
    const tenant = await make();
    const name = `tenants/${tenant}`;
    await (await platform()).updateTenant({ tenant: { name, quotas: { maxVectors: 3 } }, reason: "small" });
    await (await as(tenant, "approver")).updateTenant({ tenant: { name, alphaCapHundredths: 20 } });
    expect(await audited(tenant)).toMatchObject([
      { action: "CreateTenant", actor: "operator" },
      { action: "UpdateTenant", actor: "operator", reason: "small" },
      { action: "UpdateTenant", actor: `approver@${tenant}` },
    ]);
    const [, byPlatform] = await audited(tenant);
    expect(JSON.stringify(byPlatform?.before)).not.toBe(JSON.stringify(byPlatform?.after));
  });

  test("are tried without effect by validate_only", async () => {
    const tenant = await make();
    const name = `tenants/${tenant}`;
    const [operator, approver] = [await platform(), await as(tenant, "approver")];
    const before = await digestOfDatabase(registry.database.owner);
    const dry = { validateOnly: true };
    await operator.createTenant({ tenantId: "dry", ...dry });
    await operator.deleteTenant({ name, ...dry });
    const { tenant: tried } = await approver.updateTenant({ tenant: { name, alphaCapHundredths: 10 }, ...dry });
    expect(tried?.alphaCapHundredths).toBe(10);
    expect(await digestOfDatabase(registry.database.owner)).toBe(before);
  });

  test("are refused while it is deleted, and go on when it is back", async () => {
    const tenant = await make();
    const name = `tenants/${tenant}`;
    const operator = await platform();
    const admin = await as(tenant, "admin");
    const rename = () => outcome(admin.updateTenant({ tenant: { name, displayName: "New" } }));
    expect((await operator.deleteTenant({ name })).tenant?.state).toBe(ResourceState.DELETED);
    expect(await rename()).toBe("RESOURCE_DELETED");
    const listed = async (showDeleted: boolean) =>
      (await operator.listTenants({ showDeleted, pageSize: 1000 })).tenants.some((it) => it.name === name);
    expect([await listed(false), await listed(true)]).toEqual([false, true]);
    expect(await outcome(operator.deleteTenant({ name }))).toBe("accepted");
    expect((await operator.undeleteTenant({ name })).tenant?.state).toBe(ResourceState.ACTIVE);
    expect(await rename()).toBe("accepted");
    expect(await outcome(admin.deleteTenant({ name }))).not.toBe("accepted");
  });
});
