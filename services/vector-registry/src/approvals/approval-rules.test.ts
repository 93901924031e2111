import { ApprovalDecision } from "@persona-mesh/protocol/registry";
import fc from "fast-check";
import { sql } from "kysely";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { RunningRegistry } from "../start-registry.ts";
import {
  type GovernedRegistry,
  type GovernedTenant,
  openGovernedRegistry,
  outcome,
} from "../testing/governed-registry.ts";

let registry: GovernedRegistry;
let replicas: readonly RunningRegistry[];

beforeAll(async () => {
  registry = await openGovernedRegistry();
  replicas = [registry.running, await registry.replica()];
});
afterAll(() => registry.close());

const PEOPLE = ["alice", "bob", "carol", "dora"] as const;
type Person = (typeof PEOPLE)[number];

/** What people do; alice made the version. */
type Step =
  | { readonly kind: "decide"; readonly by: Person; readonly approve: boolean }
  | { readonly kind: "withdraw"; readonly by: Person; readonly admin: boolean; readonly of: Person }
  | { readonly kind: "require"; readonly approvals: number }
  | { readonly kind: "runOut" }
  | { readonly kind: "activate" }
  | { readonly kind: "deactivate" };

/** The rules, as few words as they take. */
class Rules {
  required = 1;
  active = false;
  /** Decisions in force. */
  readonly decisions = new Map<Person, "APPROVE" | "REJECT">();

  get isApproved(): boolean {
    const decisions = [...this.decisions.values()];
    return !decisions.includes("REJECT") && decisions.length >= this.required;
  }

  /** What a step gives: the reason of its refusal, or "accepted". */
  take(step: Step): string {
    switch (step.kind) {
      case "decide":
        if (step.by === "alice") return "SELF_APPROVAL";
        if (this.decisions.has(step.by)) return "ALREADY_DECIDED";
        this.decisions.set(step.by, step.approve ? "APPROVE" : "REJECT");
        return "accepted";
      case "withdraw": {
        const decision = this.decisions.get(step.of);
        if (decision === undefined) return "accepted";
        if (step.by !== step.of && !step.admin) return "PERMISSION_DENIED";
        if (step.by === "alice" && decision === "REJECT") return "SELF_APPROVAL";
        this.decisions.delete(step.of);
        return "accepted";
      }
      case "require":
        this.required = step.approvals;
        return "accepted";
      case "runOut":
        this.decisions.clear();
        return "accepted";
      case "activate":
        if (!this.active && !this.isApproved) return "NOT_APPROVED";
        this.active = true;
        return "accepted";
      case "deactivate":
        this.active = false;
        return "accepted";
    }
  }
}

const person = fc.constantFrom(...PEOPLE);
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 5, arbitrary: fc.record({ kind: fc.constant("decide" as const), by: person, approve: fc.boolean() }) },
  {
    weight: 4,
    arbitrary: fc.record({ kind: fc.constant("withdraw" as const), by: person, admin: fc.boolean(), of: person }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ kind: fc.constant("require" as const), approvals: fc.integer({ min: 1, max: 3 }) }),
  },
  { weight: 1, arbitrary: fc.constant<Step>({ kind: "runOut" }) },
  { weight: 4, arbitrary: fc.constant<Step>({ kind: "activate" }) },
  { weight: 2, arbitrary: fc.constant<Step>({ kind: "deactivate" }) },
);

/** The maker of a version, who is an admin too, against the rejection of it. */
const BACK_DOOR: Step[] = [
  { kind: "decide", by: "carol", approve: false },
  { kind: "withdraw", by: "alice", admin: true, of: "carol" },
  { kind: "decide", by: "bob", approve: true },
  { kind: "activate" },
  { kind: "withdraw", by: "dora", admin: true, of: "carol" },
  { kind: "activate" },
];

async function sunny(): Promise<GovernedTenant> {
  const tenant = await registry.tenant(1);
  await (await tenant.personas()).createPersona({
    parent: tenant.name,
    personaId: "sunny",
    persona: { spec: { terms: [{ vector: tenant.version(1), alphaHundredths: 30 }] } },
  });
  return tenant;
}

/** Do a step at a replica. @param given - names of the newest decisions */
async function act(
  tenant: GovernedTenant,
  taken: Step,
  { given, replica }: { readonly given: Map<Person, string>; readonly replica: RunningRegistry },
): Promise<string> {
  switch (taken.kind) {
    case "decide": {
      const approvals = await tenant.approvals(taken.by, "approver", replica);
      const decision = taken.approve ? ApprovalDecision.APPROVE : ApprovalDecision.REJECT;
      const call = approvals.createApproval({ parent: tenant.name, version: tenant.version(1), decision });
      const result = await outcome(call);
      if (result === "accepted") given.set(taken.by, (await call).approval?.name ?? "");
      return result;
    }
    case "withdraw": {
      const name = given.get(taken.of);
      if (name === undefined) return "accepted";
      const approvals = await tenant.approvals(taken.by, taken.admin ? "admin" : "approver", replica);
      const result = await outcome(approvals.revokeApproval({ name }));
      if (result === "accepted") given.delete(taken.of);
      return result;
    }
    case "require":
      await tenant.write(sql`UPDATE tenants SET required_approvals = ${taken.approvals} WHERE tenant = ${tenant.id}`);
      return "accepted";
    case "runOut":
      await tenant.age();
      given.clear();
      return "accepted";
    case "activate": {
      const personas = await tenant.personas("olga", "operator", replica);
      return outcome(personas.activatePersona({ name: tenant.persona("sunny") }));
    }
    case "deactivate": {
      const personas = await tenant.personas("olga", "operator", replica);
      return outcome(personas.deactivatePersona({ parent: tenant.name }));
    }
  }
}

test("two replicas hold to the rules, whatever people do", async () => {
  const seen = new Map<string, number>();
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 6, maxLength: 18 }), async (steps) => {
      const tenant = await sunny();
      const rules = new Rules();
      const given = new Map<Person, string>();
      for (const [index, taken] of steps.entries()) {
        const replica = replicas[index % 2] as RunningRegistry;
        const expected = rules.take(taken);
        expect([index, taken, await act(tenant, taken, { given, replica })]).toEqual([index, taken, expected]);
        seen.set(`${taken.kind} ${expected}`, (seen.get(`${taken.kind} ${expected}`) ?? 0) + 1);
      }
    }),
    { numRuns: 15, seed: 4, endOnFailure: true, examples: [[BACK_DOOR]] },
  );
  // The sequences reach what matters.
  for (const reached of [
    "activate accepted",
    "activate NOT_APPROVED",
    "withdraw SELF_APPROVAL",
    "withdraw PERMISSION_DENIED",
  ]) {
    expect(seen.get(reached) ?? 0, reached).toBeGreaterThan(0);
  }
});

interface Entry {
  readonly action: string;
  readonly resource: string;
  readonly after?: { readonly decision?: string };
}

test("approving, withdrawing and activating at once leave a history in which every activation was approved", async () => {
  let refusals = 0;
  let activations = 0;
  for (let round = 0; round < 8; round++) {
    const tenant = await sunny();
    const [here, there] = replicas;
    const decide = async (by: string, replica?: RunningRegistry) =>
      (await tenant.approvals(by, "approver", replica)).createApproval({
        parent: tenant.name,
        version: tenant.version(1),
        decision: ApprovalDecision.APPROVE,
      });
    const { approval } = await decide("bob");
    const activate = async (replica?: RunningRegistry) =>
      outcome((await tenant.personas("olga", "operator", replica)).activatePersona({ name: tenant.persona("sunny") }));
    const withdraw = (await tenant.approvals("bob", "approver", here)).revokeApproval({ name: approval?.name ?? "" });
    const results = await Promise.all([
      activate(there),
      outcome(withdraw),
      activate(here),
      ...(round % 2 === 0 ? [outcome(decide("carol", there))] : []),
      activate(there),
    ]);
    expect(results.filter((result) => result !== "accepted" && result !== "NOT_APPROVED")).toEqual([]);
    refusals += results.filter((result) => result === "NOT_APPROVED").length;
    activations += await replay(tenant);
  }
  expect([refusals > 0, activations > 0]).toEqual([true, true]);
});

/** Go through the audit in its order. @returns how often a persona was activated, each time with an approval in force */
async function replay(tenant: GovernedTenant): Promise<number> {
  const { rows } = await sql<{ payload: string }>`
    SELECT payload FROM registry.audit WHERE tenant = ${tenant.id} AND chain = 'CHANGES' ORDER BY sequence`.execute(
    registry.database.owner.db,
  );
  const inForce = new Set<string>();
  let activations = 0;
  for (const { payload } of rows) {
    const { action, resource } = JSON.parse(payload) as Entry;
    if (action === "CreateApproval") inForce.add(resource);
    if (action === "RevokeApproval") inForce.delete(resource);
    if (action !== "ActivatePersona") continue;
    expect(inForce.size).toBeGreaterThan(0);
    activations++;
  }
  return activations;
}
