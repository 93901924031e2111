import { CompositionPolicy, Mode } from "@persona-mesh/protocol";
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

const term = (vector: string, alphaHundredths: number, layers: number[] = []) => ({ vector, alphaHundredths, layers });

async function create(tenant: GovernedTenant, spec: object, more: object = {}) {
  const personas = await tenant.personas();
  return personas.createPersona({ parent: tenant.name, personaId: "sunny", persona: { spec }, ...more });
}

async function stored(tenant: GovernedTenant): Promise<number> {
  const { rows: found } = await sql<{ count: string }>`
    SELECT count(*)::text AS count FROM registry.persona_revisions WHERE tenant = ${tenant.id}`.execute(
    registry.database.owner.db,
  );
  return Number(found[0]?.count);
}

describe("writing a persona", () => {
  test("resolves aliases and stores what packages/steering makes of it, with its numbers", async () => {
    const tenant = await registry.tenant(1, 2);
    await tenant.write(...rows.pointAlias(tenant.id, "canary", 2));
    const { persona, revision } = await create(tenant, {
      terms: [term(tenant.version(1), 30), term(tenant.alias("canary"), -40, [2])],
      mode: Mode.ADD_RENORM,
    });
    expect(persona).toMatchObject({
      name: tenant.persona("sunny"),
      latestRevision: `${tenant.persona("sunny")}/revisions/1`,
      releasedRevision: "",
      activeRevision: "",
      spec: { terms: [{ vector: tenant.version(1) }, { vector: tenant.alias("canary"), layers: [2] }] },
    });
    expect(revision?.terms).toMatchObject([
      { version: tenant.version(1), alphaHundredths: 30, layers: [1, 2] },
      { vector: tenant.alias("canary"), version: tenant.version(2), alphaHundredths: -40, layers: [2] },
    ]);
    expect(revision).toMatchObject({ modelChecksum: rows.MODEL_CHECKSUM, mode: Mode.ADD_RENORM, createdBy: "alice" });
    expect(revision?.composition).toMatchObject({ outcome: "ACCEPTED", factor: 1, capHundredths: 50 });
    // Orthogonal directions of norm 1: √(0.3² + 0.4²) where both act.
    expect(revision?.composition?.layers.map(({ layer, dose }) => [layer, dose.toFixed(6)])).toEqual([
      [1, "0.300000"],
      [2, "0.500000"],
    ]);
    expect(revision?.composition?.totalDose).toBeCloseTo(0.8, 6);
    expect(revision?.gate.map(({ reason, term: index }) => [reason, index])).toEqual([
      ["NOT_APPROVED", 0],
      ["NOT_APPROVED", 1],
    ]);
    const read = await (await tenant.personas("victor", "viewer")).getPersonaRevision({ name: revision?.name ?? "" });
    expect(read.revision).toEqual(revision);
  });

  test("has a digest over everything that decides what it does, and nothing else", async () => {
    const tenant = await registry.tenant(1, 2);
    await tenant.write(...rows.pointAlias(tenant.id, "canary", 1));
    const digest = async (spec: object) => (await create(tenant, spec, { validateOnly: true })).revision?.digest;
    const base = { terms: [term(tenant.version(1), 30)] };
    const same = await digest(base);
    expect(await digest({ terms: [term(tenant.alias("canary"), 30, [2, 1])] })).toBe(same);
    const others = await Promise.all([
      digest({ ...base, mode: Mode.ADD_RENORM }),
      digest({ ...base, policy: CompositionPolicy.ACCEPT }),
      digest({ terms: [term(tenant.version(2), 30)] }),
      digest({ terms: [term(tenant.version(1), 31)] }),
      digest({ terms: [term(tenant.version(1), 30, [1])] }),
    ]);
    expect(new Set([same, ...others]).size).toBe(6);
    expect(await stored(tenant)).toBe(0);
  });

  test("scales to the budget by policy, and says by how much", async () => {
    const tenant = await registry.tenant(1, 2);
    const spec = { terms: [term(tenant.version(1), 50), term(tenant.version(2), 50)], policy: CompositionPolicy.SCALE };
    const { revision } = await create(tenant, spec);
    expect(revision?.composition?.outcome).toBe("SCALED");
    // Both layers have 0.5·√2; their sum √2 is over 2 × 0.5.
    expect(revision?.composition?.factor).toBeCloseTo(Math.SQRT1_2, 3);
    expect(revision?.composition?.findings[0]?.message).toContain("scaled by 0.707");
  });

  test("is refused with the reason and the numbers, whatever is wrong", async () => {
    const tenant = await registry.tenant(1, 2);
    const other = await registry.tenant(1);
    await tenant.write(...rows.publish(tenant.id, 3), ...rows.revoke(tenant.id, 3));
    const over = await refusal(create(tenant, { terms: [term(tenant.version(1), 65)] }));
    expect(over?.reason).toBe("ALPHA_OVER_CAP");
    expect(over?.rawMessage).toBe(
      `persona "${tenant.persona("sunny")}" term 1: alpha 0.65 is over the cap 0.50 of CUSTOMER_FACING. Lower it, or have an approver change the tenant's deployment context.`,
    );
    const dose = await refusal(create(tenant, { terms: [term(tenant.version(1), 50), term(tenant.version(2), 50)] }));
    expect(dose?.reason).toBe("DOSE_OVER_BUDGET");
    expect(dose?.rawMessage).toContain("layer 1: dose 0.707 is over the budget 0.50");
    const twice = await refusal(create(tenant, { terms: [term(tenant.version(1), 10), term(tenant.version(1), 10)] }));
    expect(twice?.reason).toBe("TERMS_OVERLAP");
    expect(twice?.rawMessage).toContain("cosine 1.000");

    const refused: readonly (readonly [object | undefined, string])[] = [
      [undefined, "INVALID_ARGUMENT"],
      [{ terms: [] }, "INVALID_ARGUMENT"],
      [{ terms: Array.from({ length: 17 }, () => term(tenant.version(1), 1)) }, "INVALID_ARGUMENT"],
      [{ terms: [term("cheerful", 10)] }, "INVALID_ARGUMENT"],
      [{ terms: [term(tenant.version(1), 10)], mode: 99 }, "INVALID_ARGUMENT"],
      [{ terms: [term(tenant.version(1), 10)], policy: -1 }, "INVALID_ARGUMENT"],
      [
        {
          terms: [
            term(
              tenant.version(1),
              10,
              Array.from({ length: 513 }, (_, i) => i),
            ),
          ],
        },
        "INVALID_ARGUMENT",
      ],
      [{ terms: [term(tenant.version(1), -(2 ** 31))] }, "ALPHA_OVER_CAP"],
      [{ terms: [term(tenant.version(1), 10, [3])] }, "LAYER_OUT_OF_RANGE"],
      [{ terms: [term(tenant.version(1), 10, [2 ** 32 - 1])] }, "LAYER_OUT_OF_RANGE"],
      [{ terms: [term(tenant.version(1), 10, [1, 1])] }, "LAYER_OUT_OF_RANGE"],
      [{ terms: [term(tenant.alias("production"), 10)] }, "RESOURCE_NOT_FOUND"],
      [{ terms: [term(tenant.version(7), 10)] }, "RESOURCE_NOT_FOUND"],
      [{ terms: [term(other.version(1), 10)] }, "RESOURCE_NOT_FOUND"],
      [{ terms: [term(tenant.version(3), 10)] }, "VERSION_REVOKED"],
    ];
    for (const [spec, reason] of refused) {
      expect([reason, await outcome(create(tenant, spec as object))]).toEqual([reason, reason]);
    }
    const good = { terms: [term(tenant.version(1), 10)] };
    expect(await outcome(create(tenant, good, { personaId: "Sunny" }))).toBe("INVALID_ARGUMENT");
    expect(await outcome(create(tenant, good, { reason: "a\0b" }))).toBe("INVALID_ARGUMENT");
    expect(await outcome(create(tenant, good, { parent: other.name }))).toBe("RESOURCE_NOT_FOUND");
    expect(await stored(tenant)).toBe(0);
  });

  test("the same vector may act twice where layers or policy keep it apart", async () => {
    const tenant = await registry.tenant(1);
    const terms = [term(tenant.version(1), 10, [1]), term(tenant.version(1), 20, [2])];
    const { revision } = await create(tenant, { terms });
    expect(revision?.composition?.layers.map(({ dose }) => dose.toFixed(3))).toEqual(["0.100", "0.200"]);
  });

  test("repeating a request gives the first answer; another persona of the name is refused", async () => {
    const tenant = await registry.tenant(1);
    const spec = { terms: [term(tenant.version(1), 30)] };
    const first = await create(tenant, spec, { requestId: "one" });
    expect(await create(tenant, spec, { requestId: "one" })).toEqual(first);
    expect(await outcome(create(tenant, spec, { requestId: "two" }))).toBe("RESOURCE_EXISTS");
    expect(await stored(tenant)).toBe(1);
  });

  test("the quota counts personas that are not deleted", async () => {
    const tenant = await registry.tenant(1);
    await tenant.write(sql`UPDATE tenants SET max_personas = 1 WHERE tenant = ${tenant.id}`);
    const spec = { terms: [term(tenant.version(1), 30)] };
    await create(tenant, spec);
    expect(await outcome(create(tenant, spec, { personaId: "rainy" }))).toBe("QUOTA_EXCEEDED");
    const personas = await tenant.personas();
    await personas.deletePersona({ name: tenant.persona("sunny") });
    await create(tenant, spec, { personaId: "rainy" });
    expect(await outcome(personas.undeletePersona({ name: tenant.persona("sunny") }))).toBe("QUOTA_EXCEEDED");
  });
});

describe("changing a persona", () => {
  test("makes a revision of another spec, none of the same, and none that was not seen", async () => {
    const tenant = await registry.tenant(1);
    const { persona } = await create(tenant, { terms: [term(tenant.version(1), 30)] });
    const personas = await tenant.personas();
    const name = tenant.persona("sunny");
    const spec = { terms: [term(tenant.version(1), 20)] };
    const changed = await personas.updatePersona({ persona: { name, spec, etag: persona?.etag ?? "" } });
    expect(changed.revision?.number).toBe(2);
    expect(await outcome(personas.updatePersona({ persona: { name, spec, etag: persona?.etag ?? "" } }))).toBe(
      "ETAG_MISMATCH",
    );
    const same = await personas.updatePersona({ persona: { name, spec } });
    expect([same.revision?.number, same.persona?.etag]).toEqual([2, changed.persona?.etag]);
    const texts = await personas.updatePersona({
      persona: { name, displayName: "Sunny", spec: { terms: [] } },
      updateMask: { paths: ["display_name"] },
    });
    expect([texts.revision?.number, texts.persona?.displayName]).toEqual([2, "Sunny"]);
    const tried = await personas.updatePersona({
      persona: { name, spec: { terms: [term(tenant.version(1), 10)] } },
      validateOnly: true,
    });
    expect(tried.revision?.number).toBe(3);
    expect((await personas.getPersona({ name })).persona).toEqual(texts.persona);
    expect(await outcome(personas.updatePersona({ persona: { name }, updateMask: { paths: ["etag"] } }))).toBe(
      "INVALID_ARGUMENT",
    );

    const diff = await personas.diffPersonaRevisions({ name: `${name}/revisions/1`, otherName: `${name}/revisions/2` });
    expect(diff.fields.map(({ field }) => field)).toEqual(["terms[0]"]);
    expect(JSON.parse(diff.fields[0]?.otherValueJson ?? "")).toMatchObject({ alphaHundredths: 20 });
    expect(diff.layers.map(({ layer, dose, otherDose }) => [layer, dose?.toFixed(3), otherDose?.toFixed(3)])).toEqual([
      [1, "0.300", "0.200"],
      [2, "0.300", "0.200"],
    ]);
  });

  test("makes a revision of the same spec where another cap scales it otherwise", async () => {
    const tenant = await registry.tenant(1, 2);
    const vectors = [tenant.version(1), tenant.version(2)];
    const spec = { terms: vectors.map((vector) => term(vector, 40)), policy: CompositionPolicy.SCALE };
    const first = await create(tenant, spec);
    await tenant.write(sql`UPDATE tenants SET alpha_cap_hundredths = 40 WHERE tenant = ${tenant.id}`);
    const personas = await tenant.personas();
    const gated = await personas.getPersonaRevision({ name: first.revision?.name ?? "" });
    expect(gated.revision?.gate.map(({ reason }) => reason)).toContain("DOSE_OVER_BUDGET");
    const { revision } = await personas.updatePersona({ persona: { name: tenant.persona("sunny"), spec } });
    expect([revision?.number, revision?.composition?.capHundredths]).toEqual([2, 40]);
    expect(revision?.digest).not.toBe(first.revision?.digest);
    expect(revision?.gate.map(({ reason }) => reason)).not.toContain("DOSE_OVER_BUDGET");
  });

  test("lists by page, newest revisions first, and takes no token of another list", async () => {
    const tenant = await registry.tenant(1);
    const personas = await tenant.personas();
    const name = tenant.persona("sunny");
    await create(tenant, { terms: [term(tenant.version(1), 10)] });
    await create(tenant, { terms: [term(tenant.version(1), 10)] }, { personaId: "rainy" });
    for (const alpha of [11, 12])
      await personas.updatePersona({ persona: { name, spec: { terms: [term(tenant.version(1), alpha)] } } });
    const first = await personas.listPersonaRevisions({ parent: name, pageSize: 2 });
    const second = await personas.listPersonaRevisions({ parent: name, pageSize: 2, pageToken: first.nextPageToken });
    expect([...first.revisions, ...second.revisions].map(({ number }) => number)).toEqual([3, 2, 1]);
    expect(second.nextPageToken).toBe("");
    const list = await personas.listPersonas({ parent: tenant.name, pageSize: 1 });
    expect(list.personas.map(({ name: shown }) => shown)).toEqual([tenant.persona("rainy")]);
    expect(await outcome(personas.listPersonas({ parent: tenant.name, pageToken: first.nextPageToken }))).toBe(
      "INVALID_ARGUMENT",
    );
    const forged = Buffer.from(`${Buffer.from(first.nextPageToken, "base64url").toString().slice(0, 12)}x'`);
    expect(
      await outcome(personas.listPersonaRevisions({ parent: name, pageToken: forged.toString("base64url") })),
    ).toBe("INVALID_ARGUMENT");
    expect((await personas.listPersonas({ parent: tenant.name })).personas).toHaveLength(2);
  });

  test("a deleted persona comes back as it would be had it never been away", async () => {
    const tenant = await registry.tenant(1, 2);
    await tenant.write(...rows.pointAlias(tenant.id, "canary", 1));
    await create(tenant, { terms: [term(tenant.alias("canary"), 30)] });
    const personas = await tenant.personas();
    const name = tenant.persona("sunny");
    await personas.deletePersona({ name });
    expect(await outcome(personas.updatePersona({ persona: { name, displayName: "x" } }))).toBe("RESOURCE_DELETED");
    await tenant.write(...rows.pointAlias(tenant.id, "canary", 2, { number: 2 }));
    const { persona } = await personas.undeletePersona({ name });
    expect(persona).toMatchObject({ latestRevision: `${name}/revisions/2`, state: 1 });
    const { revision } = await personas.getPersonaRevision({ name: persona?.latestRevision ?? "" });
    expect(revision?.terms[0]?.version).toBe(tenant.version(2));
  });
});
