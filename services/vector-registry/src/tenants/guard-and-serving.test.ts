import { fromBinary } from "@bufbuild/protobuf";
import {
  ChangeSchema,
  DistributionService,
  GuardCachePolicy,
  TenantService,
  type TenantState,
} from "@persona-mesh/protocol/registry";
import type { RoleName } from "@persona-mesh/service";
import { DEFAULT_GUARD_POLICY, GUARD_POLICY_BOUNDS } from "@persona-mesh/steering";
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

async function make(tenant: object = {}): Promise<{ readonly tenant: string; readonly name: string }> {
  const tenantId = `watched-${++count}`;
  await (await platform()).createTenant({ tenantId, tenant });
  return { tenant: tenantId, name: `tenants/${tenantId}` };
}

/** What workers were told of a tenant, in order. */
async function told(tenant: string): Promise<TenantState[]> {
  const { rows } = await sql<{ body: Buffer }>`
    SELECT body FROM registry.changes WHERE tenant = ${tenant} ORDER BY revision, part`.execute(
    registry.database.owner.db,
  );
  return rows
    .map(({ body }) => fromBinary(ChangeSchema, body).state)
    .flatMap((state) => (state.case === "tenantState" ? [state.value] : []));
}

const DEFAULT_GUARD = { ...DEFAULT_GUARD_POLICY, cache: GuardCachePolicy.KEEP };
const DEFAULT_SERVING = { weight: 100, maxRunning: 0, maxWaiting: 0, tokensPerMinute: 0 };

const GUARD = {
  observeOnly: true,
  windowTokens: 64,
  bandHundredths: 20,
  stepHundredths: 5,
  repetitionHundredths: 60,
  cache: GuardCachePolicy.REPREFILL,
  twinShareBasisPoints: 0,
  refillTokens: 512,
};
const SERVING = { weight: 300, maxRunning: 2, maxWaiting: 9, tokensPerMinute: 60_000 };

describe("the guard policy and the serving quotas of a tenant", () => {
  test("have the contract's defaults, for callers and for workers", async () => {
    const { tenant, name } = await make();
    const { tenant: seen } = await (await as(tenant, "viewer")).getTenant({ name });
    expect(seen?.policy?.guard).toMatchObject(DEFAULT_GUARD);
    expect(seen?.quotas?.serving).toMatchObject(DEFAULT_SERVING);
    const [state] = await told(tenant);
    expect(state?.guard).toMatchObject(DEFAULT_GUARD);
    expect(state?.serving).toMatchObject(DEFAULT_SERVING);
  });

  test("are what the tenant was made with, and a share of no twins is kept apart from no share", async () => {
    const { tenant, name } = await make({ policy: { guard: GUARD }, quotas: { serving: SERVING } });
    const { tenant: seen } = await (await as(tenant, "viewer")).getTenant({ name });
    expect(seen?.policy?.guard).toMatchObject(GUARD);
    expect(seen?.quotas?.serving).toMatchObject(SERVING);
    const paths = ["policy.guard.twin_share_basis_points"];
    const approver = await as(tenant, "approver");
    const { tenant: reset } = await approver.updateTenant({ tenant: { name }, updateMask: { paths } });
    expect(reset?.policy?.guard).toMatchObject({ ...GUARD, twinShareBasisPoints: 100 });
    // No refills is what is unset of them: named and 0 it is back.
    const { tenant: never } = await approver.updateTenant({
      tenant: { name, policy: { guard: { refillTokens: 0 } } },
      updateMask: { paths: ["policy.guard.refill_tokens"] },
    });
    expect(never?.policy?.guard).toMatchObject({ ...GUARD, twinShareBasisPoints: 100, refillTokens: 0 });
  });

  test("change by field, whole, and back to the defaults, and workers hear of each change", async () => {
    const { tenant, name } = await make();
    const [approver, operator] = [await as(tenant, "approver"), await platform()];
    await approver.updateTenant({ tenant: { name, policy: { guard: { stepHundredths: 5 } } } });
    await approver.updateTenant({
      tenant: { name, policy: { guard: GUARD } },
      updateMask: { paths: ["policy.guard.cache", "policy.guard.observe_only"] },
    });
    await operator.updateTenant({ tenant: { name, quotas: { serving: SERVING } } });
    await operator.updateTenant({ tenant: { name }, updateMask: { paths: ["quotas.serving.max_running"] } });
    await approver.updateTenant({ tenant: { name }, updateMask: { paths: ["policy.guard"] } });
    await operator.updateTenant({ tenant: { name }, updateMask: { paths: ["quotas"] } });
    const two = { ...DEFAULT_GUARD, stepHundredths: 5, cache: GuardCachePolicy.REPREFILL, observeOnly: true };
    expect(await told(tenant)).toMatchObject([
      { guard: DEFAULT_GUARD, serving: DEFAULT_SERVING },
      { guard: { ...DEFAULT_GUARD, stepHundredths: 5 }, serving: DEFAULT_SERVING },
      { guard: two, serving: DEFAULT_SERVING },
      { guard: two, serving: SERVING },
      { guard: two, serving: { ...SERVING, maxRunning: 0 } },
      { guard: DEFAULT_GUARD, serving: { ...SERVING, maxRunning: 0 } },
      { guard: DEFAULT_GUARD, serving: DEFAULT_SERVING },
    ]);
    // Other quotas are nothing to workers.
    await operator.updateTenant({ tenant: { name, quotas: { maxVectors: 3 } } });
    expect(await told(tenant)).toHaveLength(7);
  });

  test("are an approver's and the platform's: to anybody else they are refused, and nothing changes", async () => {
    const { tenant, name } = await make();
    const guard = { tenant: { name, policy: { guard: { observeOnly: true } } } };
    const serving = { tenant: { name, quotas: { serving: { weight: 1000 } } } };
    const before = await digestOfDatabase(registry.database.owner);
    for (const client of [await as(tenant, "admin"), await platform()]) {
      expect(await refusal(client.updateTenant(guard))).toMatchObject({
        reason: "PERMISSION_DENIED",
        message: expect.stringContaining("an approver of the tenant"),
        metadata: { path: "policy.guard.observe_only" },
      });
    }
    for (const roles of [["admin"], ["approver"], ["admin", "approver"]] as RoleName[][]) {
      expect(await refusal((await as(tenant, ...roles)).updateTenant(serving))).toMatchObject({
        reason: "PERMISSION_DENIED",
        message: expect.stringContaining("an admin of the platform"),
        metadata: { path: "quotas.serving.weight" },
      });
    }
    for (const paths of [["policy.guard"], ["policy.guard.cache"], ["quotas.serving"]]) {
      const change = (await as(tenant, "admin")).updateTenant({ tenant: { name }, updateMask: { paths } });
      expect([paths, await outcome(change)]).toEqual([paths, "PERMISSION_DENIED"]);
    }
    expect(await digestOfDatabase(registry.database.owner)).toBe(before);
  });

  test("outside of their bounds are refused with every violation at once; at the bounds they are taken", async () => {
    const { tenant, name } = await make();
    const [approver, operator] = [await as(tenant, "approver"), await platform()];
    const entries = Object.entries(GUARD_POLICY_BOUNDS);
    const at = (index: 0 | 1, beyond: number) =>
      Object.fromEntries(entries.map(([key, bounds]) => [key, bounds[index] + beyond]));
    for (const index of [0, 1] as const) {
      const edge = at(index, 0);
      const { tenant: seen } = await approver.updateTenant({ tenant: { name, policy: { guard: edge } } });
      expect(seen?.policy?.guard).toMatchObject(edge);
    }
    const over = { ...at(1, 1), cache: 7 as GuardCachePolicy };
    const policy = { revocation: 9 as never, guard: over };
    const fields = await fieldsOf(approver.updateTenant({ tenant: { name, policy } }));
    expect(fields.sort()).toEqual([
      "tenant.policy.guard.band_hundredths",
      "tenant.policy.guard.cache",
      "tenant.policy.guard.refill_tokens",
      "tenant.policy.guard.repetition_hundredths",
      "tenant.policy.guard.step_hundredths",
      "tenant.policy.guard.twin_share_basis_points",
      "tenant.policy.guard.window_tokens",
      "tenant.policy.revocation",
    ]);
    const often = { tenant: { name, policy: { guard: { refillTokens: 15 } } } };
    expect(await fieldsOf(approver.updateTenant(often))).toEqual(["tenant.policy.guard.refill_tokens"]);
    const serving = { weight: 1001, maxRunning: 2 ** 31, maxWaiting: 2 ** 31, tokensPerMinute: 2 ** 32 - 1 };
    const quotas = await fieldsOf(operator.updateTenant({ tenant: { name, quotas: { serving } } }));
    expect(quotas.sort()).toEqual([
      "tenant.quotas.serving.max_running",
      "tenant.quotas.serving.max_waiting",
      "tenant.quotas.serving.tokens_per_minute",
      "tenant.quotas.serving.weight",
    ]);
    for (const paths of [["policy.guard.nonsense"], ["policy.guard."], ["guard"], ["quotas.serving.weight.x"]]) {
      expect(await outcome(approver.updateTenant({ tenant: { name }, updateMask: { paths } }))).toBe(
        "INVALID_ARGUMENT",
      );
    }
  });

  test("are in the audit as they were and as they became, and only tried by validate_only", async () => {
    const { tenant, name } = await make();
    const [approver, operator] = [await as(tenant, "approver"), await platform()];
    const before = await digestOfDatabase(registry.database.owner);
    const change = { tenant: { name, policy: { guard: GUARD } } };
    const { tenant: tried } = await approver.updateTenant({ ...change, validateOnly: true });
    expect(tried?.policy?.guard).toMatchObject(GUARD);
    const quotas = { tenant: { name, quotas: { serving: SERVING } } };
    expect((await operator.updateTenant({ ...quotas, validateOnly: true })).tenant?.quotas?.serving).toMatchObject(
      SERVING,
    );
    expect(await digestOfDatabase(registry.database.owner)).toBe(before);
    await approver.updateTenant({ ...change, reason: "loops" });
    await operator.updateTenant(quotas);
    const { rows } = await sql<{ payload: string }>`
      SELECT payload FROM registry.audit WHERE tenant = ${tenant} AND chain = 'CHANGES' ORDER BY sequence`.execute(
      registry.database.owner.db,
    );
    const none = { weight: 100, maxRunning: null, maxWaiting: null, tokensPerMinute: null };
    expect(rows.map(({ payload }) => JSON.parse(payload))).toMatchObject([
      { action: "CreateTenant" },
      {
        reason: "loops",
        before: {
          guard: { observeOnly: false, windowTokens: 32, cache: "KEEP", twinShareBasisPoints: 100, refillTokens: 0 },
        },
        after: {
          guard: {
            observeOnly: true,
            windowTokens: 64,
            cache: "REPREFILL",
            twinShareBasisPoints: 0,
            refillTokens: 512,
          },
        },
      },
      { actor: "operator", before: { serving: none }, after: { serving: SERVING } },
    ]);
  });

  test("are held to their bounds by the database itself", async () => {
    const { tenant } = await make();
    const wrong: readonly [string, number | string][] = [
      ...Object.entries(GUARD_POLICY_BOUNDS).flatMap(([key, [least, most]]): [string, number][] => {
        const column = `guard_${key.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)}`;
        return [
          [column, least - 1],
          [column, most + 1],
        ];
      }),
      ["guard_cache", "DROP"],
      ["guard_refill_tokens", -1],
      ["guard_refill_tokens", 1],
      ["serving_weight", 0],
      ["serving_weight", 1001],
      ["serving_max_running", 0],
      ["serving_max_waiting", 0],
      ["serving_tokens_per_minute", 0],
    ];
    for (const [column, value] of wrong) {
      const update = sql`UPDATE registry.tenants SET ${sql.ref(column)} = ${value} WHERE tenant = ${tenant}`;
      await expect(update.execute(registry.database.owner.db), `${column} = ${value}`).rejects.toMatchObject({
        code: "23514",
      });
    }
  });

  test("are in the snapshot of a worker that is new", async () => {
    const { tenant } = await make({ policy: { guard: GUARD }, quotas: { serving: SERVING } });
    const worker = await registry.service(DistributionService, "inference");
    const stop = new AbortController();
    const states: TenantState[] = [];
    for await (const { event } of worker.watch(
      { modelChecksum: "c".repeat(64), worker: "new" },
      { signal: stop.signal },
    )) {
      if (event.case !== "snapshot") break;
      for (const { tenant: of, state } of event.value.changes) {
        if (of === tenant && state.case === "tenantState") states.push(state.value);
      }
      if (event.value.last) break;
    }
    stop.abort();
    expect(states).toMatchObject([{ guard: GUARD, serving: SERVING }]);
  });
});

/** The fields that a refusal names. */
async function fieldsOf(call: Promise<unknown>): Promise<string[]> {
  const refused = await refusal(call);
  expect(refused?.reason).toBe("INVALID_ARGUMENT");
  return refused?.fieldViolations.map(({ field }) => field) ?? [];
}
