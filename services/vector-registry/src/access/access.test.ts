import type { DescService } from "@bufbuild/protobuf";
import * as registryProtocol from "@persona-mesh/protocol/registry";
import { declaredAccess } from "@persona-mesh/service";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { openTestRegistry, type TestRegistry } from "../testing/test-registry.ts";

const SERVICES = Object.values(registryProtocol).filter(
  (it): it is typeof registryProtocol.TenantService => typeof it === "object" && "kind" in it && it.kind === "service",
) as readonly DescService[];

type Call = (request: object, options?: { readonly signal: AbortSignal }) => Promise<unknown> | AsyncIterable<unknown>;

let mesh: TestRegistry;

beforeAll(async () => {
  mesh = await openTestRegistry();
}, 60_000);
afterAll(() => mesh.close());

/** What an empty request is refused for by those who look at it, which they do for callers that are let in. */
const AFTER_ACCESS = new Set(["INVALID_ARGUMENT", "RESOURCE_NOT_FOUND"]);

/** The reason that a call is refused for, or "let in": whatever comes after who may call. */
async function outcome(call: Call, request: object): Promise<string> {
  const ended = new AbortController();
  try {
    const answer = call(request, { signal: ended.signal });
    if (Symbol.asyncIterator in answer) await answer[Symbol.asyncIterator]().next();
    else await answer;
    return "let in";
  } catch (error) {
    const { reason } = error as { readonly reason: string };
    return AFTER_ACCESS.has(reason) ? "let in" : reason;
  } finally {
    ended.abort();
  }
}

const CALLERS = [
  ...(["viewer", "operator", "approver", "admin", "service"] as const).flatMap((role) =>
    ["acme", "platform"].map((tenant) => ({ as: `${role} of ${tenant}`, roles: [role], tenant, service: undefined })),
  ),
  { as: "nobody", roles: [] as const, tenant: "acme", service: undefined },
  { as: "certified inference", roles: ["service"] as const, tenant: "platform", service: "inference" },
  { as: "certified calibrator", roles: ["service"] as const, tenant: "platform", service: "calibrator" },
];

describe.each(CALLERS)("$as", ({ roles, tenant, service: name }) => {
  test.each(SERVICES)("is let in at $typeName where the proto says so, and nowhere else", async (service) => {
    const client = (name === undefined
      ? await mesh.client(service, { roles: [...roles], tenant })
      : await mesh.service(service, name)) as unknown as Record<string, Call>;
    const access = declaredAccess(service);
    const seen: Record<string, string> = {};
    const expected: Record<string, string> = {};
    for (const method of service.methods) {
      const path = `/${service.typeName}/${method.name}`;
      const required = access.get(path);
      if (required?.kind !== "roles") throw new Error(`${path} declares no roles`);
      const byRole = roles.some(
        (role) =>
          required.anyOf.has(role) &&
          (role !== "service" || required.services.size === 0 || (name !== undefined && required.services.has(name))),
      );
      expected[path] = byRole ? "let in" : "PERMISSION_DENIED";
      seen[path] = await outcome((...args) => (client[method.localName] as Call)(...args), {});
    }
    expect(seen).toEqual(expected);
  });
});
