import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create, toBinary } from "@bufbuild/protobuf";
import { status } from "@grpc/grpc-js";
import type { InferenceClient } from "@persona-mesh/client";
import {
  DistributionService,
  PersonaService,
  VectorService,
  WatchRequestSchema,
  WorkerState,
} from "@persona-mesh/protocol/registry";
import {
  type Client,
  createClient,
  createLogger,
  openDevTls,
  PLATFORM_TENANT,
  type TlsSource,
} from "@persona-mesh/service";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { collect, failureOf } from "../support/failure.ts";
import { type GovernedMesh, openGovernedMesh } from "../support/governed-mesh.ts";
import type { GovernedTenant, GovernedVersion } from "../support/governed-tenant.ts";
import { rawCall } from "../support/raw-grpc.ts";
import { ask } from "../support/requests.ts";

let mesh: GovernedMesh;
let acme: GovernedTenant;
let globex: GovernedTenant;
let secret: GovernedVersion;
let ofAcme: InferenceClient;

beforeAll(async () => {
  mesh = await openGovernedMesh();
  acme = await mesh.tenant("acme");
  globex = await mesh.tenant("globex");
  await acme.produce("own", 1);
  secret = await globex.produce("secret", 2);
  await globex.followed(await globex.activate("secret"));
  ofAcme = await mesh.client({ tenant: "acme" });
});

afterAll(() => mesh.close());

describe("what belongs to another tenant", () => {
  // As long as the foreign names: what is said of both can be compared letter by letter.
  const missing = { tenant: "tenants/nobody", persona: "tenants/globex/personas/absent" } as const;

  /** Everything that a caller learns from a refusal. */
  const learned = async (call: Promise<unknown>) => {
    const { code, reason, message } = await failureOf(call);
    return { code, reason, message: message.replaceAll(/tenants\/[\w/-]+/g, "NAME") };
  };

  test("cannot be worn, nor told from what is not there", async () => {
    const wear = (as: string) => learned(ofAcme.generateText(ask("hello", { as })));
    const foreign = await wear(globex.persona("secret"));
    expect(foreign).toMatchObject({ code: status.NOT_FOUND, reason: "PERSONA_NOT_FOUND" });
    for (const name of [missing.persona, "tenants/nobody/personas/secret", "tenants/acme/personas/secret"]) {
      expect(await wear(name)).toEqual(foreign);
    }
    const { persona: _, ...ofActive } = ask("hello", { maxTokens: 1 });
    expect((await ofAcme.generateText(ofActive)).started.persona).toBeUndefined();
    const loaded = await collect(ofAcme.listLoadedPersonas());
    expect(loaded.map(({ proof }) => proof?.name)).toEqual([acme.persona("own")]);
    // It is there, for its own.
    const ofGlobex = await mesh.client({ tenant: "globex" });
    expect((await ofGlobex.generateText(ofActive)).started.persona?.versionDigests).toEqual([secret.digest]);
  });

  test("cannot be read or used at the registry, nor told from what is not there", async () => {
    const vectors = await acme.as(VectorService, "admin");
    const personas = await acme.as(PersonaService, "admin");
    const distribution = await acme.as(DistributionService, "admin");
    const calls: readonly (readonly [string, (tenant: string) => Promise<unknown>])[] = [
      ["persona", (tenant) => personas.getPersona({ name: `${tenant}/personas/secret` })],
      ["alias", (tenant) => vectors.getAlias({ name: `${tenant}/vectors/secret/aliases/production` })],
      ["bytes", (tenant) => vectors.getVersionContent({ name: `${tenant}/vectors/secret/aliases/production` })],
      ["distribution", (tenant) => distribution.getDistribution({ parent: tenant })],
      ["switch", (tenant) => personas.activatePersona({ name: `${tenant}/personas/secret` })],
    ];
    for (const [what, call] of calls) {
      const foreign = await learned(call(globex.name));
      expect({ what, ...foreign }).toMatchObject({ what, code: status.NOT_FOUND, reason: "RESOURCE_NOT_FOUND" });
      expect({ what, ...(await learned(call(missing.tenant))) }).toEqual({ what, ...foreign });
    }
    // A persona of one's own made of another's vector is no way around.
    const borrowed = await learned(acme.compose("borrowed", secret.name));
    const unknown = await learned(acme.compose("borrowed", secret.name.replace(secret.digest, "0".repeat(64))));
    expect(borrowed).toEqual(unknown);
  });

  test("nor are its workers' problems shown", async () => {
    const worker = await mesh.registry.service(DistributionService, "inference");
    const problem = {
      tenant: "globex",
      resource: globex.persona("secret"),
      reason: "TABLE_TOO_SMALL",
      message: "small",
    };
    await worker.reportWorker({
      worker: "worker-2",
      modelChecksum: mesh.served.model.modelChecksum,
      state: WorkerState.ERROR,
      appliedRevision: 1n,
      problems: [problem],
    });
    const problemsSeenBy = async (tenant: GovernedTenant) =>
      (await tenant.distribution()).workers.find(({ worker: name }) => name === "worker-2")?.problems;
    expect(await problemsSeenBy(globex)).toMatchObject([problem]);
    expect(await problemsSeenBy(acme)).toEqual([]);
  });
});

describe("what workers are told", () => {
  const request = () => ({ modelChecksum: mesh.served.model.modelChecksum, worker: "worker-3" });

  /** The first message of a watch, or why there is none. */
  async function firstOf(client: Client<typeof DistributionService>): Promise<string> {
    const messages = client.watch(request())[Symbol.asyncIterator]();
    const call = messages.next();
    onTestFinished(async () => {
      await messages.return?.();
    });
    return call.then(
      ({ value }) => value?.event.case,
      async (error) => (await failureOf(Promise.reject(error))).reason,
    );
  }

  test("takes the certificate of a worker: no token will do, and no other service's certificate", async () => {
    const { registry } = mesh;
    expect(await firstOf(await registry.service(DistributionService, "inference"))).toBe("snapshot");
    for (const tenant of ["acme", PLATFORM_TENANT]) {
      for (const role of ["admin", "approver", "operator", "viewer", "service"] as const) {
        const client = await registry.client(DistributionService, { tenant, roles: [role] });
        expect([tenant, role, await firstOf(client)]).toEqual([tenant, role, "PERMISSION_DENIED"]);
        const fetched = collect(client.fetchVersions({ ...request(), versions: [{ tenant, digest: secret.digest }] }));
        expect((await failureOf(fetched)).reason).toBe("PERMISSION_DENIED");
      }
    }
    for (const service of ["calibrator", "vector-registry"]) {
      expect(await firstOf(await registry.service(DistributionService, service))).toBe("PERMISSION_DENIED");
    }
  });

  test("takes one of the mesh's own authority", async () => {
    const folder = await mkdtemp(join(tmpdir(), "persona-stranger-"));
    onTestFinished(() => rm(folder, { recursive: true, force: true }));
    const log = createLogger("stranger", "silent");
    const [ours, theirs] = [
      await openDevTls(mesh.registry.dataDir, "inference", log),
      await openDevTls(folder, "inference", log),
    ];
    onTestFinished(() => {
      ours.close();
      theirs.close();
    });
    // Trusts the registry as a worker does, and shows a worker's name on a certificate of its own making.
    const { ca } = ours.current;
    const material = { ...theirs.current, ...(ca === undefined ? {} : { ca }) };
    const stranger: TlsSource = { current: material, onChange: () => {}, close: () => {} };
    using client = createClient(DistributionService, mesh.registry.address, stranger);
    // As good as no certificate.
    expect(await firstOf(client)).toBe("TOKEN_MISSING");
  });

  test("is not told in plain text", async () => {
    const bytes = toBinary(WatchRequestSchema, create(WatchRequestSchema, request()));
    const path = `/${DistributionService.typeName}/Watch`;
    const answer = await rawCall(mesh.registry.address, { path, bytes });
    expect(answer.status.code).toBe(status.UNAVAILABLE);
    expect(answer.messages).toEqual([]);
  });
});
