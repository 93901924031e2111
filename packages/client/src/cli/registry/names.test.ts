import type { Version } from "@persona-mesh/protocol/registry";
import { describe, expect, it } from "vitest";
import {
  aliasName,
  belowTenant,
  modelName,
  type NameScope,
  revisionName,
  tenantId,
  versionName,
  versionOrAlias,
} from "./names.ts";

const FIRST = `3f2a9c01${"0".repeat(56)}`;
const SECOND = `3f2a9c01${"1".repeat(56)}`;

let listed: string[] = [];
const scope = {
  parent: "tenants/acme",
  call: { signal: new AbortController().signal },
  client: {
    async *listVersions({ parent }: { parent: string }) {
      listed.push(parent);
      for (const digest of [FIRST, SECOND]) yield { digest, name: `${parent}/versions/${digest}` } as Version;
    },
  },
} as unknown as NameScope;

describe("short names", () => {
  it("are of the tenant", () => {
    expect(tenantId("tenants/acme")).toBe("acme");
    expect(modelName("starter")).toBe("models/starter");
    expect(belowTenant(scope, "vectors", "cheerful")).toBe("tenants/acme/vectors/cheerful");
    expect(aliasName(scope, "cheerful@production")).toBe("tenants/acme/vectors/cheerful/aliases/production");
    expect(revisionName(scope, "cheerful@3")).toBe("tenants/acme/personas/cheerful/revisions/3");
  });

  it("of versions are looked up, a whole digest is not", async () => {
    listed = [];
    expect(await versionName(scope, `cheerful@${FIRST.slice(0, 9)}`)).toBe(
      `tenants/acme/vectors/cheerful/versions/${FIRST}`,
    );
    expect(listed).toEqual(["tenants/acme/vectors/cheerful"]);
    expect(await versionOrAlias(scope, `cheerful@${SECOND}`)).toMatch(/\/versions\/3f2a9c0111/);
    expect(listed).toHaveLength(1);
  });

  it("that look like no digest are aliases, where there may be one", async () => {
    expect(await versionOrAlias(scope, "cheerful@canary")).toBe("tenants/acme/vectors/cheerful/aliases/canary");
    expect(await versionOrAlias(scope, "cheerful@3f2a9c0")).toBe("tenants/acme/vectors/cheerful/aliases/3f2a9c0");
    await expect(versionName(scope, "cheerful@canary")).rejects.toMatchObject({ reason: "NAME_INVALID" });
  });

  it("of a version must name one", async () => {
    await expect(versionName(scope, "cheerful@3f2a9c01")).rejects.toMatchObject({ reason: "VERSION_AMBIGUOUS" });
    await expect(versionName(scope, "cheerful@deadbeef")).rejects.toMatchObject({ reason: "VERSION_NOT_FOUND" });
  });

  it.each(["", "a@b", "a/b", "models/x"])("are refused where they are none: %j", (name) => {
    expect(() => belowTenant(scope, "personas", name)).toThrow("does not name one of personas");
  });

  it.each(["cheerful", "cheerful@", "@x", "a@b@c", "a/b@c"])("of aliases need both parts: %j", (name) => {
    expect(() => aliasName(scope, name)).toThrow("cheerful@production");
  });
});

it("full names are taken as they are: what is wrong with them, the registry says", async () => {
  const name = "tenants/globex/anything/at/all";
  expect([belowTenant(scope, "vectors", name), aliasName(scope, name), revisionName(scope, name)]).toEqual([
    name,
    name,
    name,
  ]);
  expect([await versionName(scope, name), await versionOrAlias(scope, name)]).toEqual([name, name]);
});
