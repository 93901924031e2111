import { create, type DescMessage, type MessageInitShape } from "@bufbuild/protobuf";
import {
  ApprovalDecision,
  ListPersonaRevisionsRequestSchema,
  ListPersonasRequestSchema,
  ListVectorsRequestSchema,
  ListVersionsRequestSchema,
  VersionState,
} from "@persona-mesh/protocol/registry";
import type { CallContext } from "@persona-mesh/service";
import { afterAll, beforeAll, expect, test } from "vitest";
import { listPersonaRevisions, listPersonas } from "../personas/read-personas.ts";
import type { Registry } from "../registry.ts";
import { countStatements } from "../testing/count-statements.ts";
import { type GovernedRegistry, type GovernedTenant, openGovernedRegistry } from "../testing/governed-registry.ts";
import * as rows from "../testing/governed-rows.ts";
import { listVectors } from "./read-vectors.ts";
import { listVersions } from "./read-versions.ts";

const SEEDS = Array.from({ length: 12 }, (_, index) => index + 1);

let registry: GovernedRegistry;
let tenant: GovernedTenant;

beforeAll(async () => {
  registry = await openGovernedRegistry();
  tenant = await registry.tenant(...SEEDS);
  await tenant.write(
    rows.evaluate(tenant.id, 2, -10, 20, 2),
    rows.approve(tenant.id, 3, "bob"),
    rows.approve(tenant.id, 4, "bob", { decision: "REJECT" }),
    ...rows.revoke(tenant.id, 5),
  );
  const vectors = await tenant.vectors();
  for (const vectorId of ["calm", "warm"]) await vectors.createVector({ parent: tenant.name, vectorId });
  const personas = await tenant.personas();
  for (const seed of SEEDS) {
    const terms = [{ vector: tenant.version(seed === 5 ? 6 : seed), alphaHundredths: 10 + seed }];
    await personas.createPersona({ parent: tenant.name, personaId: `p-${seed}`, persona: { spec: { terms } } });
    if (seed > 1) await personas.updatePersona({ persona: { name: tenant.persona("p-1"), spec: { terms } } });
  }
}, 60_000);
afterAll(() => registry.close());

test("a listed version is the one that is asked for by its name, but for the pairs", async () => {
  const vectors = await tenant.vectors();
  const { versions } = await vectors.listVersions({ parent: `${tenant.name}/vectors/cheerful` });
  expect(versions).toHaveLength(SEEDS.length);
  for (const version of versions) {
    expect((await vectors.getVersion({ name: version.name })).version).toEqual(version);
  }
  const of = (seed: number) => versions.find(({ name }) => name === tenant.version(seed));
  expect(of(1)).toMatchObject({ evaluation: { alphaMinHundredths: -50 }, approval: { approvals: 0, required: 1 } });
  expect(of(2)).toMatchObject({ evaluation: { alphaMinHundredths: -10, alphaMaxHundredths: 20 } });
  expect(of(3)?.approval?.approvals).toBe(1);
  expect(of(4)?.approval?.state).not.toBe(of(1)?.approval?.state);
  expect(versions.filter(({ state }) => state === VersionState.REVOKED).map(({ name }) => name)).toEqual([
    tenant.version(5),
  ]);
  const approvals = await tenant.approvals("carol");
  await approvals.createApproval({
    parent: tenant.name,
    version: tenant.version(6),
    decision: ApprovalDecision.APPROVE,
  });
  const again = await vectors.listVersions({ parent: `${tenant.name}/vectors/cheerful` });
  expect(again.versions.find(({ name }) => name === tenant.version(6))?.approval?.approvals).toBe(1);
});

type Call = (registry: Registry, request: never, context: CallContext) => Promise<object>;

test.each<[string, Call, DescMessage, (tenant: GovernedTenant) => string]>([
  ["versions", listVersions, ListVersionsRequestSchema, ({ name }) => `${name}/vectors/cheerful`],
  ["vectors", listVectors, ListVectorsRequestSchema, ({ name }) => name],
  ["personas", listPersonas, ListPersonasRequestSchema, ({ name }) => name],
  ["revisions", listPersonaRevisions, ListPersonaRevisionsRequestSchema, (it) => it.persona("p-1")],
])("a page of %s takes as many statements as one of a single one", async (_, list, schema, parent) => {
  const statements = async (pageSize: number) => {
    const counted = countStatements(registry.database.service);
    const context = { caller: { subject: "alice", tenant: tenant.id, roles: new Set(["viewer"]) } };
    const init = { parent: parent(tenant), pageSize } as MessageInitShape<DescMessage>;
    const answer = await list(counted.registry, create(schema, init) as never, context as never);
    const [items] = Object.values(answer).filter(Array.isArray);
    return { count: counted.statements(), items: items?.length };
  };
  const one = await statements(1);
  const many = await statements(100);
  expect(one.items).toBe(1);
  expect(many.items).toBeGreaterThan(2);
  expect(many.count).toBe(one.count);
  expect(one.count).toBeGreaterThan(1);
});
