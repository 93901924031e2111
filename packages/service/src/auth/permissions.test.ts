import { createFileRegistry, type DescService, fromBinary, toBinary } from "@bufbuild/protobuf";
import {
  type FileDescriptorProto,
  FileDescriptorProtoSchema,
  FileDescriptorSetSchema,
  file_google_protobuf_descriptor,
} from "@bufbuild/protobuf/wkt";
import { status } from "@grpc/grpc-js";
import * as protocol from "@persona-mesh/protocol";
import * as registry from "@persona-mesh/protocol/registry";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { frame, rawCall } from "../testing/raw-call.ts";
import { openTestServer, type TestServer } from "../testing/test-server.ts";
import { type Caller, isRoleName, PLATFORM_TENANT, ROLES, type RoleName } from "./caller.ts";
import { type Access, authorize, declaredAccess } from "./permissions.ts";

const everyone: RoleName[] = ["viewer", "operator", "approver", "admin", "service"];
const users: RoleName[] = ["operator", "admin", "service"];

/**
 * Who may call what: written out a second time on purpose, so that no change of a proto opens or closes a method
 * unnoticed. A new method fails the test until it stands here.
 */
const MATRIX: Record<string, readonly RoleName[]> = {
  "/persona.inference.v1.InferenceService/Generate": users,
  "/persona.inference.v1.InferenceService/Score": users,
  "/persona.inference.v1.InferenceService/CaptureActivations": ["service"],
  "/persona.inference.v1.InferenceService/GetModel": everyone,
  "/persona.inference.v1.InferenceService/ListLoadedPersonas": everyone,
};

/** The same of the registry. Only the workers themselves, by their certificate, watch and say how they are. */
const WORKERS = { roles: ["service"], services: ["inference"] } as const;
const REGISTRY_MATRIX: Record<string, readonly RoleName[] | typeof WORKERS> = {
  "/persona.registry.v1.ApprovalService/CreateApproval": ["approver"],
  "/persona.registry.v1.ApprovalService/GetApproval": everyone,
  "/persona.registry.v1.ApprovalService/ListApprovals": everyone,
  "/persona.registry.v1.ApprovalService/RevokeApproval": ["admin", "approver"],
  "/persona.registry.v1.ApprovalService/ListBreakGlassUses": everyone,
  "/persona.registry.v1.ApprovalService/ReviewBreakGlassUse": ["approver"],
  "/persona.registry.v1.AuditService/ListAuditEntries": ["admin", "approver"],
  "/persona.registry.v1.AuditService/ExportAudit": ["admin", "approver"],
  "/persona.registry.v1.AuditService/ListAuditKeys": everyone,
  "/persona.registry.v1.DistributionService/Watch": WORKERS,
  "/persona.registry.v1.DistributionService/FetchVersions": WORKERS,
  "/persona.registry.v1.DistributionService/ReportWorker": WORKERS,
  "/persona.registry.v1.DistributionService/GetDistribution": everyone,
  "/persona.registry.v1.ModelService/CreateModel": ["admin", "service"],
  "/persona.registry.v1.ModelService/GetModel": everyone,
  "/persona.registry.v1.ModelService/ListModels": everyone,
  "/persona.registry.v1.ModelService/UpdateModel": ["admin"],
  "/persona.registry.v1.ModelService/DeleteModel": ["admin"],
  "/persona.registry.v1.ModelService/UndeleteModel": ["admin"],
  "/persona.registry.v1.PersonaService/CreatePersona": ["admin"],
  "/persona.registry.v1.PersonaService/GetPersona": everyone,
  "/persona.registry.v1.PersonaService/ListPersonas": everyone,
  "/persona.registry.v1.PersonaService/UpdatePersona": ["admin"],
  "/persona.registry.v1.PersonaService/DeletePersona": ["admin"],
  "/persona.registry.v1.PersonaService/UndeletePersona": ["admin"],
  "/persona.registry.v1.PersonaService/GetPersonaRevision": everyone,
  "/persona.registry.v1.PersonaService/ListPersonaRevisions": everyone,
  "/persona.registry.v1.PersonaService/DiffPersonaRevisions": everyone,
  "/persona.registry.v1.PersonaService/ActivatePersona": ["admin", "operator"],
  "/persona.registry.v1.PersonaService/DeactivatePersona": ["admin", "operator"],
  "/persona.registry.v1.PersonaService/ListActivations": everyone,
  "/persona.registry.v1.TenantService/CreateTenant": ["admin"],
  "/persona.registry.v1.TenantService/GetTenant": everyone,
  "/persona.registry.v1.TenantService/ListTenants": everyone,
  "/persona.registry.v1.TenantService/UpdateTenant": ["admin", "approver"],
  "/persona.registry.v1.TenantService/DeleteTenant": ["admin"],
  "/persona.registry.v1.TenantService/UndeleteTenant": ["admin"],
  "/persona.registry.v1.VectorService/CreateVector": ["admin", "service"],
  "/persona.registry.v1.VectorService/GetVector": everyone,
  "/persona.registry.v1.VectorService/ListVectors": everyone,
  "/persona.registry.v1.VectorService/UpdateVector": ["admin"],
  "/persona.registry.v1.VectorService/DeleteVector": ["admin"],
  "/persona.registry.v1.VectorService/UndeleteVector": ["admin"],
  "/persona.registry.v1.VectorService/PublishVersion": ["admin", "service"],
  "/persona.registry.v1.VectorService/GetVersion": everyone,
  "/persona.registry.v1.VectorService/ListVersions": everyone,
  "/persona.registry.v1.VectorService/GetVersionContent": ["admin", "approver", "operator", "service"],
  "/persona.registry.v1.VectorService/AddEvaluation": ["admin", "service"],
  "/persona.registry.v1.VectorService/DiffVersions": ["admin", "approver", "operator", "service"],
  "/persona.registry.v1.VectorService/RevokeVersion": ["admin", "approver"],
  "/persona.registry.v1.VectorService/SetAlias": ["admin", "service"],
  "/persona.registry.v1.VectorService/RollbackAlias": ["admin", "operator", "service"],
  "/persona.registry.v1.VectorService/GetAlias": everyone,
  "/persona.registry.v1.VectorService/ListAliases": everyone,
  "/persona.registry.v1.VectorService/ListAliasTargets": everyone,
  "/persona.registry.v1.VectorService/DeleteAlias": ["admin"],
};

const services = Object.values(protocol).filter(
  (it): it is typeof protocol.InferenceService => typeof it === "object" && "kind" in it && it.kind === "service",
);

let mesh: TestServer;

beforeAll(async () => {
  mesh = await openTestServer({
    async *generate() {},
    async *captureActivations() {},
    score: async () => ({}),
    getModel: async () => ({}),
    listLoadedPersonas: async () => ({}),
  });
});

afterAll(() => mesh.close());

test("every method of every service declares its roles, and the ones that are expected", () => {
  const declared = services.flatMap((service) => [...declaredAccess(service)]);
  expect(
    Object.fromEntries(declared.map(([path, access]) => [path, access.kind === "roles" && [...access.anyOf].sort()])),
  ).toEqual(Object.fromEntries(Object.entries(MATRIX).map(([path, roles]) => [path, [...roles].sort()])));
});

test("every method of the registry is for the roles, and the services, that are written here", () => {
  const descriptors = Object.values(registry).filter(
    (it): it is typeof registry.TenantService => typeof it === "object" && "kind" in it && it.kind === "service",
  );
  const declared = descriptors.flatMap((service) => [...declaredAccess(service)]);
  const written = Object.entries(REGISTRY_MATRIX).map(([path, entry]) => {
    const { roles, services } = "roles" in entry ? entry : { roles: entry, services: [] };
    return [path, { roles: [...roles].sort(), services: [...services] }];
  });
  expect(
    Object.fromEntries(
      declared.map(([path, access]) => [
        path,
        access.kind === "roles" && { roles: [...access.anyOf].sort(), services: [...access.services] },
      ]),
    ),
  ).toEqual(Object.fromEntries(written));
});

const walk = Object.keys(MATRIX).flatMap((path) =>
  [...everyone, undefined].map((role) => ({ path, role, allowed: role !== undefined && MATRIX[path]?.includes(role) })),
);

test.each(walk)("$path as $role: allowed $allowed", async ({ path, role, allowed }) => {
  const token = await mesh.token({ roles: role === undefined ? [] : [role] });
  const result = await rawCall(mesh.server.port, {
    path,
    headers: { authorization: `Bearer ${token}` },
    body: frame(new Uint8Array()),
  });
  expect([result.code, result.reason]).toEqual(
    allowed ? [status.OK, undefined] : [status.PERMISSION_DENIED, "PERMISSION_DENIED"],
  );
});

test.each(Object.keys(MATRIX))("%s without a token", async (path) => {
  const result = await rawCall(mesh.server.port, { path, body: frame(new Uint8Array()) });
  expect([result.code, result.reason]).toEqual([status.UNAUTHENTICATED, "TOKEN_MISSING"]);
});

test("a method that declares nothing, or no role, is denied to everyone", () => {
  const all = { subject: "root", tenant: "acme", roles: new Set(Object.keys(ROLES).filter(isRoleName)) };
  const unchanged = declaredAccess(changedService("keep"));
  for (const path of Object.keys(MATRIX)) authorize(all, unchanged.get(path), path);
  for (const change of ["remove", "empty"] as const) {
    const access = declaredAccess(changedService(change));
    for (const path of Object.keys(MATRIX)) {
      expect(() => authorize(all, access.get(path), path), `${change} ${path}`).toThrow("is for nobody");
    }
    expect(() => authorize(all, undefined, "/unknown/Method")).toThrow("is for nobody");
  }
});

describe("a method that names its services", () => {
  const toRegistry: Access = {
    kind: "roles",
    anyOf: new Set<RoleName>(["admin", "service"]),
    services: new Set(["calibrator"]),
  };
  const anyService: Access = { ...toRegistry, services: new Set() };
  const certified = (service: string): Caller => ({
    subject: `spiffe://persona-mesh/ns/persona-mesh/sa/${service}`,
    tenant: PLATFORM_TENANT,
    roles: new Set(["service"]),
    service,
  });
  const token = (...roles: RoleName[]): Caller => ({ subject: "calibrator", tenant: "acme", roles: new Set(roles) });
  const isLetIn = (caller: Caller, access: Access) => {
    try {
      authorize(caller, access, "/m");
      return true;
    } catch {
      return false;
    }
  };

  test("admits those by certificate, no other service, and no token with the role alone", () => {
    expect(isLetIn(certified("calibrator"), toRegistry)).toBe(true);
    expect(isLetIn(certified("inference"), toRegistry)).toBe(false);
    expect(isLetIn(token("service"), toRegistry)).toBe(false);
    expect(isLetIn({ ...token("service"), tenant: PLATFORM_TENANT }, toRegistry)).toBe(false);
    expect(() => authorize(token("service"), toRegistry, "/m")).toThrow(
      "/m is for admin, the service calibrator with its certificate; the caller's roles: service",
    );
  });

  test("still admits people by their other roles", () => {
    expect(isLetIn(token("admin"), toRegistry)).toBe(true);
    expect(isLetIn(token("service", "admin"), toRegistry)).toBe(true);
    expect(isLetIn(token("viewer"), toRegistry)).toBe(false);
  });

  test("without names, every service and every token with the role is admitted", () => {
    for (const caller of [certified("calibrator"), certified("inference"), token("service")]) {
      expect(isLetIn(caller, anyService)).toBe(true);
    }
  });

  test("names without the role admit nobody", () => {
    const access: Access = { ...toRegistry, anyOf: new Set(["admin"]) };
    expect(isLetIn(certified("calibrator"), access)).toBe(false);
  });

  test("no proto names services without the role, which would look open and be shut", () => {
    for (const [path, access] of services.flatMap((service) => [...declaredAccess(service)])) {
      if (access.kind === "roles" && access.services.size > 0) expect(access.anyOf.has("service"), path).toBe(true);
    }
  });
});

/** The real service with its requirements taken out, as a forgetful author would write it. */
function changedService(change: "keep" | "remove" | "empty"): DescService {
  const strip = (proto: FileDescriptorProto): FileDescriptorProto => {
    const copy = fromBinary(FileDescriptorProtoSchema, toBinary(FileDescriptorProtoSchema, proto));
    for (const method of copy.service.flatMap((service) => service.method)) {
      if (method.options === undefined) continue;
      const fields = method.options.$unknown ?? [];
      if (change === "remove") method.options.$unknown = [];
      if (change === "empty") method.options.$unknown = fields.map((field) => ({ ...field, data: Uint8Array.of(0) }));
    }
    return copy;
  };
  const { file } = protocol.InferenceService;
  const protos = [file_google_protobuf_descriptor, ...file.dependencies].map(({ proto }) => proto);
  const unique = [...new Map([...protos, strip(file.proto)].map((proto) => [proto.name, proto])).values()];
  const registry = createFileRegistry({ $typeName: FileDescriptorSetSchema.typeName, file: unique });
  const service = registry.getService(protocol.InferenceService.typeName);
  if (service === undefined) throw new Error("the service is gone");
  return service;
}
