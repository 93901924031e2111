import { ApprovalDecision } from "@persona-mesh/protocol/registry";
import { sql } from "kysely";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  type GovernedRegistry,
  type GovernedTenant,
  openGovernedRegistry,
  refusal,
} from "../testing/governed-registry.ts";
import * as rows from "../testing/governed-rows.ts";

let registry: GovernedRegistry;

beforeAll(async () => {
  registry = await openGovernedRegistry();
});
afterAll(() => registry.close());

interface MoveOptions {
  readonly glass?: boolean;
  readonly validateOnly?: boolean;
}

/** Point an alias at the version of a seed. @returns names of the new revisions */
async function move(tenant: GovernedTenant, alias: string, seed: number, options: MoveOptions = {}): Promise<string[]> {
  const { glass = false, validateOnly = false } = options;
  const vectors = await tenant.vectors();
  const { personaRevisions } = await vectors.setAlias({
    alias: { name: tenant.alias(alias), version: tenant.version(seed) },
    ...(glass ? { breakGlass: { justification: "outage" } } : {}),
    validateOnly,
  });
  return personaRevisions;
}

async function approve(tenant: GovernedTenant, seed: number) {
  const approvals = await tenant.approvals("bob");
  const decision = ApprovalDecision.APPROVE;
  return (
    (await approvals.createApproval({ parent: tenant.name, version: tenant.version(seed), decision })).approval?.name ??
    ""
  );
}

async function write(tenant: GovernedTenant, vectors: readonly string[], personaId = "sunny") {
  const personas = await tenant.personas();
  const spec = { terms: vectors.map((vector) => ({ vector, alphaHundredths: 30 })) };
  const name = tenant.persona(personaId);
  const { personas: known } = await personas.listPersonas({ parent: tenant.name });
  return known.some((persona) => persona.name === name)
    ? personas.updatePersona({ persona: { name, spec } })
    : personas.createPersona({ parent: tenant.name, personaId, persona: { spec } });
}

const activate = async (tenant: GovernedTenant, revision = 0) =>
  (await tenant.personas()).activatePersona({ name: tenant.persona("sunny"), revision });

/** Numbers of the latest, the released and the active revision, and what the active one's first term stands for. */
async function state(tenant: GovernedTenant, personaId = "sunny") {
  const personas = await tenant.personas();
  const { persona } = await personas.getPersona({ name: tenant.persona(personaId) });
  const number = (name = "") => Number(name.split("/").at(-1));
  const { activeRevision: name = "" } = persona ?? {};
  const active = name === "" ? undefined : (await personas.getPersonaRevision({ name })).revision;
  return {
    latest: number(persona?.latestRevision),
    released: number(persona?.releasedRevision),
    active: number(name),
    version: active?.terms[0]?.version,
  };
}

/** A tenant with versions of these seeds, all approved, `production` at the first, and "sunny" active by it. */
async function serving(...seeds: number[]): Promise<GovernedTenant> {
  const tenant = await registry.tenant(...seeds);
  for (const seed of seeds) await approve(tenant, seed);
  await move(tenant, "production", seeds[0] as number);
  await write(tenant, [tenant.alias("production")]);
  await activate(tenant);
  return tenant;
}

describe("an alias takes personas along", () => {
  test("there and back: what is active and what is released serve the new version at once", async () => {
    const tenant = await serving(1, 2);
    expect(await move(tenant, "production", 2)).toEqual([`${tenant.persona("sunny")}/revisions/2`]);
    expect(await state(tenant)).toEqual({ latest: 2, released: 2, active: 2, version: tenant.version(2) });
    const operator = await tenant.vectors("olga", "operator");
    const back = await operator.rollbackAlias({ name: tenant.alias("production"), reason: "insults people" });
    expect(back.personaRevisions).toEqual([`${tenant.persona("sunny")}/revisions/3`]);
    expect(back.revision).toBeGreaterThan(0n);
    expect(await state(tenant)).toEqual({ latest: 3, released: 3, active: 3, version: tenant.version(1) });
    const personas = await tenant.personas();
    const { activations } = await personas.listActivations({ parent: tenant.name });
    expect(activations.map(({ reason }) => reason)).toEqual([
      `${tenant.alias("production")} was moved`,
      `${tenant.alias("production")} was moved`,
      "",
    ]);
    const { revisions } = await personas.listPersonaRevisions({ parent: tenant.persona("sunny") });
    expect(revisions.map(({ cause }) => cause)).toEqual([2, 2, 1]);
    expect(revisions[0]?.digest).toBe(revisions[2]?.digest);
    expect(await move(tenant, "production", 1)).toEqual([]);
  });

  test("with validate_only they are named and stay where they are", async () => {
    const tenant = await serving(1, 2);
    const before = await state(tenant);
    expect(await move(tenant, "production", 2, { validateOnly: true })).toHaveLength(1);
    expect(await state(tenant)).toEqual(before);
  });

  test("what is in force goes along beside a newer revision that waits", async () => {
    const tenant = await serving(1, 2);
    await tenant.write(...rows.publish(tenant.id, 3), rows.evaluate(tenant.id, 3));
    // The second revision waits for approval of seed 3; the first is active and released.
    await write(tenant, [tenant.alias("production"), tenant.version(3)]);
    await move(tenant, "production", 2);
    // Three is the first with the new version, four the second with it: the latest stays the latest.
    expect(await state(tenant)).toEqual({ latest: 4, released: 3, active: 3, version: tenant.version(2) });
    await approve(tenant, 3);
    expect((await state(tenant)).released).toBe(4);
  });

  test("a revision that was activated to get away from the alias stays", async () => {
    const tenant = await serving(1, 2, 3);
    await move(tenant, "production", 2);
    await activate(tenant, 1);
    await move(tenant, "production", 3);
    expect(await state(tenant)).toEqual({ latest: 3, released: 3, active: 1, version: tenant.version(1) });
  });

  test("an alias for trying out takes nothing unapproved into production", async () => {
    const tenant = await serving(1);
    await tenant.write(...rows.publish(tenant.id, 2), rows.evaluate(tenant.id, 2));
    await move(tenant, "canary", 1);
    await write(tenant, [tenant.alias("canary")]);
    await activate(tenant);
    await move(tenant, "canary", 2);
    expect(await state(tenant)).toEqual({ latest: 3, released: 2, active: 2, version: tenant.version(1) });
    const { rows: left } = await sql<{ payload: string }>`
      SELECT payload FROM registry.audit WHERE tenant = ${tenant.id} AND action = 'LeaveActivePersona'`.execute(
      registry.database.owner.db,
    );
    expect(JSON.parse(left[0]?.payload ?? "{}")).toMatchObject({
      after: { active: `${tenant.persona("sunny")}/revisions/2`, gate: [{ reason: "NOT_APPROVED" }] },
    });
    await approve(tenant, 2);
    expect(await state(tenant)).toMatchObject({ released: 3, active: 2 });
  });

  test("production does not move past a persona that may not follow, unless the glass is broken", async () => {
    const tenant = await serving(1, 2);
    await tenant.write(...rows.publish(tenant.id, 3), rows.evaluate(tenant.id, 3));
    const approval = await approve(tenant, 3);
    await write(tenant, [tenant.alias("production"), tenant.version(3)]);
    await activate(tenant);
    await (await tenant.approvals("bob")).revokeApproval({ name: approval });
    const before = await state(tenant);
    expect((await refusal(move(tenant, "production", 2)))?.reason).toBe("NOT_APPROVED");
    expect(await state(tenant)).toEqual(before);
    await move(tenant, "production", 2, { glass: true });
    const { uses } = await (await tenant.approvals("bob")).listBreakGlassUses({ parent: tenant.name });
    expect(uses.map(({ action, resource, actor }) => [action, resource, actor])).toEqual([
      ["SetAlias", tenant.alias("production"), "alice"],
    ]);
    // Active by the glass; released stays with what people approved of.
    expect(await state(tenant)).toEqual({ latest: 3, released: 2, active: 3, version: tenant.version(2) });
    // What was measured is skipped by nobody.
    await tenant.write(rows.evaluate(tenant.id, 1, -10, 10, 2));
    expect((await refusal(move(tenant, "production", 1, { glass: true })))?.reason).toBe("ALPHA_NOT_VALIDATED");
  });

  test("where the active persona is revoked, there is nothing to leave behind", async () => {
    const tenant = await serving(1, 2);
    await tenant.write(...rows.publish(tenant.id, 3), rows.evaluate(tenant.id, 3));
    await approve(tenant, 3);
    await write(tenant, [tenant.alias("production"), tenant.version(3)]);
    await activate(tenant);
    await tenant.write(...rows.revoke(tenant.id, 3));
    await move(tenant, "production", 2);
    expect(await state(tenant)).toMatchObject({ latest: 3, active: 2 });
  });

  test("a persona that cannot be composed refuses the move, and is named", async () => {
    const tenant = await serving(1, 2);
    await write(tenant, [tenant.alias("production"), tenant.version(2)], "double");
    const before = await state(tenant);
    const refused = await refusal(move(tenant, "production", 2));
    expect(refused?.reason).toBe("TERMS_OVERLAP");
    expect(refused?.message).toContain(`"${tenant.persona("double")}" follows it`);
    expect(await state(tenant)).toEqual(before);
    // One that is deleted is in nobody's way.
    await (await tenant.personas()).deletePersona({ name: tenant.persona("double") });
    await move(tenant, "production", 2);
    expect((await state(tenant)).version).toBe(tenant.version(2));
  });
});
