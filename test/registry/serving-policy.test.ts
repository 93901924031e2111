import type { InferenceClient } from "@persona-mesh/client";
import { TenantService } from "@persona-mesh/protocol/registry";
import { type Client, PLATFORM_TENANT } from "@persona-mesh/service";
import { afterAll, beforeAll, expect, test } from "vitest";
import { DEFAULT_SERVING } from "../../services/inference/src/personas/serving-policy.ts";
import { failureOf } from "../support/failure.ts";
import { type GovernedMesh, openGovernedMesh } from "../support/governed-mesh.ts";
import type { GovernedTenant } from "../support/governed-tenant.ts";
import { ask } from "../support/requests.ts";

// What the platform and a tenant's approvers say at the registry, as a real worker acts on it.

let mesh: GovernedMesh;
let acme: GovernedTenant;
let platform: Client<typeof TenantService>;
let ofAcme: InferenceClient;
let ofGlobex: InferenceClient;

beforeAll(async () => {
  mesh = await openGovernedMesh();
  acme = await mesh.tenant("acme", { guard: { twinShareBasisPoints: 0 } });
  await mesh.tenant("globex");
  await acme.produce("glad", 1);
  await acme.followed(await acme.activate("glad"));
  platform = await mesh.registry.client(TenantService, { subject: "operations", tenant: PLATFORM_TENANT });
  ofAcme = await mesh.client({ tenant: "acme" });
  ofGlobex = await mesh.client({ tenant: "globex" });
});
afterAll(() => mesh.close());

const serving = (tenant: string) => mesh.worker.running.worker.personas.serving(tenant);
const wear = () => ofAcme.generateText(ask("hello", { as: acme.persona("glad"), maxTokens: 40 }));

test("an approver's guard policy is the worker's for that tenant, and for no other", async () => {
  expect((await wear()).finished.twin).toBeUndefined();
  await acme.update({ policy: { guard: { twinShareBasisPoints: 10_000, windowTokens: 16, observeOnly: true } } });
  await acme.followed();
  expect(serving("acme")).toEqual({
    ...DEFAULT_SERVING,
    guard: { ...DEFAULT_SERVING.guard, twinShareBasisPoints: 10_000, windowTokens: 16, observeOnly: true },
  });
  expect(serving("globex")).toEqual(DEFAULT_SERVING);
  // Every steered reply has its twin now; the active persona is what it was.
  const { finished, started } = await wear();
  expect(finished.twin?.tokens).toBeGreaterThan(0);
  expect(started.persona?.name).toBe(acme.persona("glad"));
});

test("the platform's quotas hold for the calls after them, and lifted they hold no more", async () => {
  await platform.updateTenant({ tenant: { name: acme.name, quotas: { serving: { tokensPerMinute: 1, weight: 7 } } } });
  await acme.followed();
  expect(serving("acme")).toMatchObject({ tokensPerMinute: 1, weight: 7, maxRunning: Number.POSITIVE_INFINITY });
  // The one that overdraws is let in; those after it wait until it is made up for.
  const refused = await failureOf(wear().then(wear));
  expect(refused.reason).toBe("RATE_LIMITED");
  expect(refused.retryDelayMs).toBeGreaterThan(0);
  expect((await ofGlobex.generateText(ask("hello", { maxTokens: 2 }))).tokens).toHaveLength(2);
  const paths = ["quotas.serving"];
  await platform.updateTenant({ tenant: { name: acme.name }, updateMask: { paths } });
  await acme.followed();
  expect(serving("acme")).toMatchObject({ tokensPerMinute: Number.POSITIVE_INFINITY, weight: 100 });
  expect((await wear()).tokens).toHaveLength(40);
});

test("a change by the platform leaves the tenant's active persona as it is", async () => {
  await platform.updateTenant({ tenant: { name: acme.name, quotas: { serving: { maxRunning: 3 } } } });
  await acme.followed();
  expect(serving("acme").maxRunning).toBe(3);
  const { persona: _, ...request } = ask("hello", { maxTokens: 2 });
  expect((await ofAcme.generateText(request)).started.persona?.name).toBe(acme.persona("glad"));
});
