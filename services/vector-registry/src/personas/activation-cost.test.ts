import { create } from "@bufbuild/protobuf";
import { ActivatePersonaRequestSchema, ApprovalDecision } from "@persona-mesh/protocol/registry";
import type { CallContext } from "@persona-mesh/service";
import { afterAll, beforeAll, expect, test } from "vitest";
import { countStatements } from "../testing/count-statements.ts";
import { type GovernedRegistry, openGovernedRegistry } from "../testing/governed-registry.ts";
import { activatePersona } from "./activate-persona.ts";

let registry: GovernedRegistry;

beforeAll(async () => {
  registry = await openGovernedRegistry();
}, 60_000);
afterAll(() => registry.close());

test("a persona switch is a handful of statements, however many terms the personas have", async () => {
  const seeds = [1, 2, 3, 4];
  const tenant = await registry.tenant(...seeds);
  const personas = await tenant.personas();
  const approvals = await tenant.approvals();
  for (const seed of seeds) {
    const version = tenant.version(seed);
    await approvals.createApproval({ parent: tenant.name, version, decision: ApprovalDecision.APPROVE });
  }
  const spec = (count: number) => ({
    terms: seeds.slice(0, count).map((seed) => ({ vector: tenant.version(seed), alphaHundredths: 5 })),
  });
  await personas.createPersona({ parent: tenant.name, personaId: "plain", persona: { spec: spec(1) } });
  await personas.createPersona({ parent: tenant.name, personaId: "rich", persona: { spec: spec(4) } });
  const context = {
    method: "/persona.registry.v1.PersonaService/ActivatePersona",
    requestId: "call",
    caller: { subject: "olga", tenant: tenant.id, roles: new Set(["operator"]) },
  } as unknown as CallContext;
  const cost = async (persona: string) => {
    const counted = countStatements(registry.database.service);
    const request = create(ActivatePersonaRequestSchema, { name: tenant.persona(persona) });
    await activatePersona(counted.registry, request, context);
    return counted.statements();
  };
  expect(await cost("plain")).toBeLessThanOrEqual(11);
  expect(await cost("rich")).toBe(await cost("plain"));
});
