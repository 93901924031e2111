import { RESOURCE_ID } from "@persona-mesh/service/client";
import { LocalError } from "../../local-error.ts";
import type { RegistryClient } from "../../registry/registry-client.ts";
import { UsageError } from "../failure.ts";

/**
 * Names as people write them. A full name, as the registry prints it, is always taken; what is wrong with it, the registry
 * says. Short ones are of the caller's tenant:
 *
 * - a vector or persona: `cheerful`
 * - an alias: `cheerful@production`
 * - a version: `cheerful@3f2a9c01`, the first 8 or more digits of its digest
 * - a persona's revision: `cheerful@3`
 */

/** Whose short names are meant, and where to look a version up. */
export interface NameScope {
  readonly client: Pick<RegistryClient, "listVersions">;
  readonly parent: string;
  readonly call: { readonly signal: AbortSignal };
}

const SHORT_DIGEST = /^[0-9a-f]{8,64}$/;
const DIGEST_LENGTH = 64;

/** "acme" of `acme` and of `tenants/acme`. @throws UsageError NAME_INVALID */
export function tenantId(name: string): string {
  const id = name.replace(/^tenants\//, "");
  if (RESOURCE_ID.test(id)) return id;
  throw invalid(name, "a tenant", "acme");
}

export function modelName(name: string): string {
  return name.includes("/") ? name : `models/${name}`;
}

/** The name of something directly below the tenant. @throws UsageError NAME_INVALID */
export function belowTenant(
  { parent }: Pick<NameScope, "parent">,
  collection: "vectors" | "personas" | "approvals" | "breakGlassUses",
  name: string,
): string {
  if (name.startsWith("tenants/")) return name;
  if (name === "" || /[/@]/.test(name)) throw invalid(name, `one of ${collection}`, "cheerful");
  return `${parent}/${collection}/${name}`;
}

/** "tenants/acme/vectors/cheerful/aliases/production" of `cheerful@production`. @throws UsageError NAME_INVALID */
export function aliasName(scope: Pick<NameScope, "parent">, name: string): string {
  if (name.startsWith("tenants/")) return name;
  const [vector, alias] = parts(name, "an alias", "cheerful@production");
  return `${belowTenant(scope, "vectors", vector)}/aliases/${alias}`;
}

/** "tenants/acme/personas/cheerful/revisions/3" of `cheerful@3`. @throws UsageError NAME_INVALID */
export function revisionName(scope: Pick<NameScope, "parent">, name: string): string {
  if (name.startsWith("tenants/")) return name;
  const [persona, number] = parts(name, "a persona's revision", "cheerful@3");
  return `${belowTenant(scope, "personas", persona)}/revisions/${number}`;
}

/**
 * A version or an alias: what looks like a digest is one. An alias whose name does needs to be written in full.
 *
 * @throws UsageError NAME_INVALID, LocalError VERSION_NOT_FOUND, VERSION_AMBIGUOUS
 */
export async function versionOrAlias(scope: NameScope, name: string): Promise<string> {
  if (name.startsWith("tenants/")) return name;
  const [, id] = parts(name, "a version or an alias", "cheerful@3f2a9c01 or cheerful@production");
  return SHORT_DIGEST.test(id) ? versionName(scope, name) : aliasName(scope, name);
}

/**
 * A version alone: what cannot be taken back must not depend on where an alias happens to point.
 *
 * @throws UsageError NAME_INVALID, LocalError VERSION_NOT_FOUND, VERSION_AMBIGUOUS
 */
export async function versionName(scope: NameScope, name: string): Promise<string> {
  if (name.startsWith("tenants/")) return name;
  const [vector, digest] = parts(name, "a version", "cheerful@3f2a9c01");
  if (!SHORT_DIGEST.test(digest))
    throw invalid(name, "a version", "cheerful@3f2a9c01, at least 8 digits of its digest");
  const parent = belowTenant(scope, "vectors", vector);
  if (digest.length === DIGEST_LENGTH) return `${parent}/versions/${digest}`;
  const found: string[] = [];
  for await (const version of scope.client.listVersions({ parent }, scope.call)) {
    if (version.digest.startsWith(digest)) found.push(version.name);
  }
  const [only, ...others] = found;
  if (only === undefined) throw new LocalError("VERSION_NOT_FOUND", `no version of "${vector}" begins with ${digest}`);
  if (others.length === 0) return only;
  throw new LocalError(
    "VERSION_AMBIGUOUS",
    `${found.length} versions of "${vector}" begin with ${digest}: write more of it`,
  );
}

function parts(name: string, what: string, example: string): [string, string] {
  const [first, second, ...rest] = name.split("@");
  if (!first || !second || rest.length > 0 || name.includes("/")) throw invalid(name, what, example);
  return [first, second];
}

function invalid(name: string, what: string, example: string): UsageError {
  return new UsageError("NAME_INVALID", `"${name}" does not name ${what}: write such as ${example}`);
}
