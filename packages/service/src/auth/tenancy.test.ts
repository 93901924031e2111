import { expect, test } from "vitest";
import { ServiceError } from "../errors/service-error.ts";
import { type Caller, PLATFORM_TENANT, ROLES, type RoleName } from "./caller.ts";
import { requireTenant } from "./tenancy.ts";

const everyRole = new Set(Object.keys(ROLES) as RoleName[]);
const notFound = () => new ServiceError("PERSONA_NOT_FOUND", "no such persona");
const person = (tenant: string, roles = everyRole): Caller => ({ subject: "ada", tenant, roles });

test("a caller is let into its own tenant only, whatever its roles", () => {
  requireTenant(person("acme"), "acme", notFound);
  requireTenant(person("acme", new Set()), "acme", notFound);
  for (const other of ["globex", "", "ACME", "acme-2", PLATFORM_TENANT]) {
    expect(() => requireTenant(person("acme"), other, notFound), other).toThrow("no such persona");
  }
});

test("a token of the platform, also of a service, has no way into tenants", () => {
  expect(() => requireTenant(person(PLATFORM_TENANT), "acme", notFound)).toThrow("no such persona");
  expect(() => requireTenant(person(PLATFORM_TENANT, new Set(["service"])), "acme", notFound)).toThrow(
    "no such persona",
  );
});

test("a service that is proven by its certificate is let into every tenant", () => {
  const worker: Caller = {
    subject: "spiffe://persona-mesh/ns/persona-mesh/sa/inference",
    tenant: PLATFORM_TENANT,
    roles: new Set(["service"]),
    service: "inference",
  };
  for (const tenant of ["acme", "globex", PLATFORM_TENANT]) requireTenant(worker, tenant, notFound);
});

test("what is thrown is the very error of an absent resource", () => {
  const absent = notFound();
  let thrown: unknown;
  try {
    requireTenant(person("acme"), "globex", () => absent);
  } catch (error) {
    thrown = error;
  }
  expect(thrown).toBe(absent);
});
