import type { DescService } from "@bufbuild/protobuf";
import * as registryProtocol from "@persona-mesh/protocol/registry";
import { ApprovalDecision } from "@persona-mesh/protocol/registry";
import { ClientError, declaredAccess } from "@persona-mesh/service";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type GovernedRegistry, type GovernedTenant, openGovernedRegistry } from "../testing/governed-registry.ts";

const SERVICES = Object.values(registryProtocol).filter(
  (it): it is typeof registryProtocol.TenantService => typeof it === "object" && "kind" in it && it.kind === "service",
) as readonly DescService[];

/** As long as the name of a tenant that is there, so that messages can be compared letter by letter. */
const UNKNOWN = "tenant-x";

const DIGEST = "0".repeat(64);
const UUID = "00000000-0000-4000-8000-000000000000";

let registry: GovernedRegistry;
let foreign: GovernedTenant;
let own: GovernedTenant;

beforeAll(async () => {
  registry = await openGovernedRegistry();
  foreign = await registry.tenant(1);
  own = await registry.tenant();
  await (await foreign.approvals()).createApproval({
    parent: foreign.name,
    version: foreign.version(1),
    decision: ApprovalDecision.APPROVE,
  });
  const vectors = await foreign.vectors();
  await vectors.setAlias({ alias: { name: foreign.alias("production"), version: foreign.version(1) } });
  const personas = await foreign.personas();
  const spec = { terms: [{ vector: foreign.version(1), alphaHundredths: 10 }] };
  await personas.createPersona({ parent: foreign.name, personaId: "host", persona: { spec } });
  await personas.activatePersona({ name: foreign.persona("host") });
}, 60_000);
afterAll(() => registry.close());

/** A well-formed request of each call about a tenant; what it names is there in one that is. */
function requests(tenant: string, version: string): Record<string, object> {
  const parent = `tenants/${tenant}`;
  const vector = `${parent}/vectors/cheerful`;
  const versionName = `${vector}/versions/${version}`;
  const alias = `${vector}/aliases/production`;
  const persona = `${parent}/personas/host`;
  const revision = `${persona}/revisions/1`;
  const spec = { terms: [{ vector: versionName, alphaHundredths: 10 }] };
  const reason = "why";
  return {
    GetTenant: { name: parent },
    UpdateTenant: { tenant: { name: parent, displayName: "mine" } },
    DeleteTenant: { name: parent },
    UndeleteTenant: { name: parent },
    CreateVector: { parent, vectorId: "other" },
    GetVector: { name: vector },
    ListVectors: { parent },
    UpdateVector: { vector: { name: vector, displayName: "mine" } },
    DeleteVector: { name: vector },
    UndeleteVector: { name: vector },
    GetVersion: { name: versionName },
    ListVersions: { parent: vector },
    GetVersionContent: { name: alias },
    AddEvaluation: { name: versionName, evaluation: { alphaMaxHundredths: 10 } },
    DiffVersions: { name: versionName, otherName: alias },
    RevokeVersion: { name: versionName, reason, force: true },
    SetAlias: { alias: { name: alias, version: versionName } },
    RollbackAlias: { name: alias },
    GetAlias: { name: alias },
    ListAliases: { parent: vector },
    ListAliasTargets: { parent: alias },
    DeleteAlias: { name: alias },
    CreatePersona: { parent, personaId: "other", persona: { spec } },
    GetPersona: { name: persona },
    ListPersonas: { parent },
    UpdatePersona: { persona: { name: persona, spec } },
    DeletePersona: { name: persona },
    UndeletePersona: { name: persona },
    GetPersonaRevision: { name: revision },
    ListPersonaRevisions: { parent: persona },
    DiffPersonaRevisions: { name: revision, otherName: revision },
    ActivatePersona: { name: persona },
    DeactivatePersona: { parent },
    ListActivations: { parent },
    CreateApproval: { parent, version: versionName, decision: ApprovalDecision.APPROVE },
    GetApproval: { name: `${parent}/approvals/${UUID}` },
    ListApprovals: { parent },
    RevokeApproval: { name: `${parent}/approvals/${UUID}` },
    ListBreakGlassUses: { parent },
    ReviewBreakGlassUse: { name: `${parent}/breakGlassUses/${UUID}`, note: "seen" },
    ListAuditEntries: { parent },
    ExportAudit: { parent },
    GetDistribution: { parent },
  };
}

/** Calls that are about no tenant, or that no token is enough for; and one whose request needs real bytes. */
const ELSEWHERE = new Set([
  "CreateTenant",
  "ListTenants",
  "CreateModel",
  "GetModel",
  "ListModels",
  "UpdateModel",
  "DeleteModel",
  "UndeleteModel",
  "PublishVersion",
  "ListAuditKeys",
  "Watch",
  "FetchVersions",
  "ReportWorker",
]);

test("every call is walked, or stands among those that are about no tenant", () => {
  const all = SERVICES.flatMap((service) => service.methods.map(({ name }) => name)).sort();
  expect([...Object.keys(requests(UNKNOWN, DIGEST)), ...ELSEWHERE].sort()).toEqual(all);
});

/** Everything that a refusal tells, but under which id it was logged. */
async function refusalOf(service: DescService, method: string, request: object, roles: readonly never[]) {
  const client = await registry.client(service, { subject: "mallory", tenant: own.id, roles });
  const call = (client as unknown as Record<string, (request: object) => Promise<unknown> | AsyncIterable<unknown>>)[
    method
  ];
  try {
    const answer = call?.(request) as Promise<unknown> | AsyncIterable<unknown>;
    if (Symbol.asyncIterator in answer) await answer[Symbol.asyncIterator]().next();
    else await answer;
    return { reason: "let in" };
  } catch (error) {
    const { code, reason, rawMessage, metadata, fieldViolations, retryDelayMs } = ClientError.from(error);
    const { requestId: _, ...told } = metadata;
    return { code, reason, rawMessage, metadata: told, fieldViolations, retryDelayMs };
  }
}

/** Transactions that calls begin from here on; the registry's own round the clock are other statements. */
function countTransactions(): { readonly begun: () => number } {
  let begun = 0;
  for (const { pool } of [registry.running.database.service, registry.running.database.watch]) {
    const connect = pool.connect.bind(pool) as unknown as () => Promise<{ query: (...args: unknown[]) => unknown }>;
    pool.connect = (async () => {
      const client = await connect();
      const query = client.query.bind(client);
      client.query = (...args: unknown[]) => {
        const text = String((args[0] as { text?: string })?.text ?? args[0]);
        if (/^(start transaction|begin)|"workers"/i.test(text)) begun++;
        return query(...args);
      };
      return client;
    }) as unknown as typeof pool.connect;
  }
  return { begun: () => begun };
}

const roles = ["viewer", "operator", "approver", "admin"] as unknown as readonly never[];

test("a foreign tenant and one that is not there give the same answer, letter by letter, without a look at the database", async () => {
  const version = foreign.version(1).split("/").at(-1) as string;
  const counter = countTransactions();
  for (const service of SERVICES) {
    const access = declaredAccess(service);
    for (const { name, localName } of service.methods) {
      if (ELSEWHERE.has(name)) continue;
      expect(access.get(`/${service.typeName}/${name}`)?.kind).toBe("roles");
      const there = await refusalOf(service, localName, requests(foreign.id, version)[name] as object, roles);
      const nowhere = await refusalOf(service, localName, requests(UNKNOWN, version)[name] as object, roles);
      expect(there.reason, name).toBe("RESOURCE_NOT_FOUND");
      expect(JSON.parse(JSON.stringify(there).replaceAll(foreign.id, UNKNOWN)), name).toEqual(
        JSON.parse(JSON.stringify(nowhere)),
      );
    }
  }
  // Nothing was asked of the database, so nothing it knows is in the time that an answer takes.
  expect(counter.begun()).toBe(0);
});

test("the same calls about the own tenant do look", async () => {
  const counter = countTransactions();
  const client = await registry.client(registryProtocol.VectorService, { tenant: own.id, roles: ["viewer"] });
  await client.listVectors({ parent: own.name });
  expect(counter.begun()).toBeGreaterThan(0);
});

test("within the own tenant, who lacks the role learns nothing of what is there", async () => {
  const client = await registry.client(registryProtocol.VectorService, { tenant: foreign.id, roles: ["viewer"] });
  const refused = async (name: string) =>
    client.revokeVersion({ name, reason: "why" }).then(
      () => "let in",
      (error: unknown) => ClientError.from(error).rawMessage,
    );
  const absent = foreign.version(1).replace(/[0-9a-f]{64}$/, DIGEST);
  expect(await refused(foreign.version(1))).toBe(await refused(absent));
});
