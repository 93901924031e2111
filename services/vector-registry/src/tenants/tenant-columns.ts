import type { Duration } from "@bufbuild/protobuf/wkt";
import { DeploymentContext, RevocationPolicy, type Tenant } from "@persona-mesh/protocol/registry";
import type { FieldViolation } from "@persona-mesh/service";
import { capOf } from "@persona-mesh/steering";
import type { Updateable } from "kysely";
import type { TenantsTable } from "../database/schema.ts";
import { DISPLAY_NAME, requireFields, textViolations } from "../request-fields.ts";
import { isOneOf, type Wrong, whole, word } from "./field-values.ts";
import { GUARD_PATHS, guardColumn, presentInGuard } from "./guard-columns.ts";
import { presentInServing, SERVING_PATHS, servingColumn } from "./serving-columns.ts";

type Columns = Updateable<TenantsTable>;

/** Paths of a tenant that can be written, and who may do so later. */
export const ADMIN_PATHS = ["display_name"] as const;
export const APPROVER_PATHS = [
  "context",
  "alpha_cap_hundredths",
  "policy.required_approvals",
  "policy.approvers",
  "policy.approval_lifetime",
  "policy.revocation",
  "policy.staleness_limit",
  ...GUARD_PATHS,
] as const;
export const PLATFORM_PATHS = [
  "quotas.max_vectors",
  "quotas.max_versions",
  "quotas.max_personas",
  "quotas.max_stored_bytes",
  ...SERVING_PATHS,
] as const;

export type TenantPath =
  | (typeof ADMIN_PATHS)[number]
  | (typeof APPROVER_PATHS)[number]
  | (typeof PLATFORM_PATHS)[number];

const MAX_APPROVALS = 10;
const MAX_APPROVERS = 100;
const MAX_SUBJECT = 256;
const HOUR = 3600n;
const DAY = 24n * HOUR;
/** As the column's type holds. */
const MAX_INT = 2 ** 31 - 1;
const MAX_BIGINT = 2n ** 63n - 1n;
const MAX_PERSONAS = 10_000;

/** The defaults of what a request leaves out; those of the schema. */
const DEFAULTS = {
  requiredApprovals: 1,
  approvalLifetime: 365n * DAY,
  stalenessLimit: DAY,
  maxVectors: 100,
  maxVersions: 1000,
  maxPersonas: 1000,
  maxStoredBytes: 1n << 30n,
} as const;

/** Paths that the request's tenant has set, those of the guard and of serving last. */
export function presentPaths(tenant: Tenant): TenantPath[] {
  const { policy, quotas } = tenant;
  const present: readonly [TenantPath, boolean][] = [
    ["display_name", tenant.displayName !== ""],
    ["context", tenant.context !== DeploymentContext.UNSPECIFIED],
    ["alpha_cap_hundredths", tenant.alphaCapHundredths !== undefined],
    ["policy.required_approvals", (policy?.requiredApprovals ?? 0) !== 0],
    ["policy.approvers", (policy?.approvers.length ?? 0) > 0],
    ["policy.approval_lifetime", policy?.approvalLifetime !== undefined],
    ["policy.revocation", (policy?.revocation ?? 0) !== 0],
    ["policy.staleness_limit", policy?.stalenessLimit !== undefined],
    ["quotas.max_vectors", (quotas?.maxVectors ?? 0) !== 0],
    ["quotas.max_versions", (quotas?.maxVersions ?? 0) !== 0],
    ["quotas.max_personas", (quotas?.maxPersonas ?? 0) !== 0],
    ["quotas.max_stored_bytes", (quotas?.maxStoredBytes ?? 0n) !== 0n],
  ];
  return [
    ...present.filter(([, isSet]) => isSet).map(([path]) => path),
    ...presentInGuard(policy?.guard),
    ...presentInServing(quotas?.serving),
  ];
}

/**
 * The columns behind the paths; unset fields give the defaults.
 *
 * @param current - what holds already: the cap is checked against the context that it meets
 * @throws ServiceError INVALID_ARGUMENT naming every wrong field; SteeringError CAP_RAISED
 */
export function columnsOf(
  tenant: Tenant,
  paths: ReadonlySet<TenantPath>,
  current: Pick<Columns, "context" | "alpha_cap_hundredths"> = {},
): Columns {
  const violations: FieldViolation[] = [];
  const columns: Columns = {};
  for (const path of paths)
    Object.assign(
      columns,
      columnOf(tenant, path, (violation) => violations.push(violation)),
    );
  requireFields(violations);
  const context = columns.context ?? current.context ?? "CUSTOMER_FACING";
  const cap = "alpha_cap_hundredths" in columns ? columns.alpha_cap_hundredths : current.alpha_cap_hundredths;
  capOf(context as "CUSTOMER_FACING" | "INTERNAL", (cap as number | null | undefined) ?? undefined);
  return columns;
}

function columnOf(tenant: Tenant, path: TenantPath, wrong: Wrong): Columns {
  const { policy, quotas } = tenant;
  const field = `tenant.${path}`;
  const seconds = (value: Duration | undefined, least: bigint, most: bigint, otherwise: bigint): bigint => {
    const given = value?.seconds ?? otherwise;
    if (given < least || given > most || (value?.nanos ?? 0) !== 0) {
      wrong({ field, description: `is not a whole number of seconds from ${least} to ${most}` });
    }
    return given;
  };
  if (isOneOf(GUARD_PATHS, path)) return guardColumn(policy?.guard, path, wrong);
  if (isOneOf(SERVING_PATHS, path)) return servingColumn(quotas?.serving, path, wrong);
  switch (path) {
    case "display_name":
      for (const violation of textViolations(field, tenant.displayName, DISPLAY_NAME)) wrong(violation);
      return { display_name: tenant.displayName };
    case "context":
      return { context: contextOf(tenant.context, field, wrong) };
    case "alpha_cap_hundredths":
      return { alpha_cap_hundredths: tenant.alphaCapHundredths ?? null };
    case "policy.required_approvals":
      return {
        required_approvals: whole(
          policy?.requiredApprovals || DEFAULTS.requiredApprovals,
          [1, MAX_APPROVALS],
          field,
          wrong,
        ),
      };
    case "policy.approvers":
      return { approvers: approversOf(policy?.approvers ?? [], field, wrong) };
    case "policy.approval_lifetime":
      return {
        approval_lifetime_seconds: seconds(policy?.approvalLifetime, HOUR, 1825n * DAY, DEFAULTS.approvalLifetime),
      };
    case "policy.revocation":
      return { revocation: revocationOf(policy?.revocation ?? RevocationPolicy.UNSPECIFIED, field, wrong) };
    case "policy.staleness_limit":
      return { staleness_limit_seconds: seconds(policy?.stalenessLimit, 1n, 30n * DAY, DEFAULTS.stalenessLimit) };
    case "quotas.max_vectors":
      return { max_vectors: whole(quotas?.maxVectors || DEFAULTS.maxVectors, [0, MAX_INT], field, wrong) };
    case "quotas.max_versions":
      return { max_versions: whole(quotas?.maxVersions || DEFAULTS.maxVersions, [0, MAX_INT], field, wrong) };
    case "quotas.max_personas":
      return { max_personas: whole(quotas?.maxPersonas || DEFAULTS.maxPersonas, [0, MAX_PERSONAS], field, wrong) };
    case "quotas.max_stored_bytes": {
      const bytes = quotas?.maxStoredBytes || DEFAULTS.maxStoredBytes;
      if (bytes > MAX_BIGINT) wrong({ field, description: `${bytes} is over ${MAX_BIGINT}` });
      return { max_stored_bytes: bytes };
    }
  }
}

function contextOf(context: DeploymentContext, field: string, wrong: Wrong): "CUSTOMER_FACING" | "INTERNAL" {
  word(context, { known: DeploymentContext, what: "context" }, field, wrong);
  return context === DeploymentContext.INTERNAL ? "INTERNAL" : "CUSTOMER_FACING";
}

function revocationOf(policy: RevocationPolicy, field: string, wrong: Wrong): "REMOVE" | "END" {
  word(policy, { known: RevocationPolicy, what: "policy" }, field, wrong);
  return policy === RevocationPolicy.END ? "END" : "REMOVE";
}

function approversOf(approvers: readonly string[], field: string, wrong: Wrong): string[] {
  if (approvers.length > MAX_APPROVERS) wrong({ field, description: `${approvers.length} are over ${MAX_APPROVERS}` });
  for (const [index, approver] of approvers.entries()) {
    const rule = { max: MAX_SUBJECT, required: true };
    for (const violation of textViolations(`${field}[${index}]`, approver, rule)) wrong(violation);
  }
  return [...new Set(approvers)];
}
