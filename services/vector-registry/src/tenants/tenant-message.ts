import type { MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { DeploymentContext, ResourceState, RevocationPolicy, type TenantSchema } from "@persona-mesh/protocol/registry";
import type { Kysely, Selectable } from "kysely";
import { unreviewedBreakGlass } from "../approvals/break-glass.ts";
import type { Database, TenantsTable } from "../database/schema.ts";
import { etagOf } from "../etag.ts";
import { revisionName } from "../personas/read-revision.ts";
import { TENANT_NAME } from "../resource-name.ts";
import { auditedGuard, guardMessage } from "./guard-columns.ts";
import { auditedServing, servingMessage } from "./serving-columns.ts";

type TenantRow = Selectable<TenantsTable>;

/** A tenant as callers see it. */
export async function tenantMessage(
  db: Kysely<Database>,
  row: TenantRow,
): Promise<MessageInitShape<typeof TenantSchema>> {
  return tenantWith(row, await unreviewedBreakGlass(db, row.tenant));
}

/** @param unreviewedBreakGlass - 0 where the reader may not see the tenant's uses, as the platform */
export function tenantWith(row: TenantRow, unreviewedBreakGlass: number): MessageInitShape<typeof TenantSchema> {
  const active = activePersona(row);
  return {
    name: TENANT_NAME.format({ tenant: row.tenant }),
    displayName: row.display_name,
    context: row.context === "INTERNAL" ? DeploymentContext.INTERNAL : DeploymentContext.CUSTOMER_FACING,
    ...(row.alpha_cap_hundredths === null ? {} : { alphaCapHundredths: row.alpha_cap_hundredths }),
    policy: {
      requiredApprovals: row.required_approvals,
      approvers: row.approvers,
      approvalLifetime: { seconds: row.approval_lifetime_seconds },
      revocation: row.revocation === "END" ? RevocationPolicy.END : RevocationPolicy.REMOVE,
      stalenessLimit: { seconds: row.staleness_limit_seconds },
      guard: guardMessage(row),
    },
    quotas: {
      maxVectors: row.max_vectors,
      maxVersions: row.max_versions,
      maxPersonas: row.max_personas,
      maxStoredBytes: row.max_stored_bytes,
      serving: servingMessage(row),
    },
    ...(active === undefined ? {} : { activePersona: active }),
    unreviewedBreakGlass,
    state: row.deleted_at === null ? ResourceState.ACTIVE : ResourceState.DELETED,
    createTime: timestampFromDate(row.created_at),
    updateTime: timestampFromDate(row.updated_at),
    ...(row.deleted_at === null ? {} : { deleteTime: timestampFromDate(row.deleted_at) }),
    etag: etagOf(row),
  };
}

function activePersona({ tenant, active_persona: persona, active_number: number, ...row }: TenantRow) {
  if (persona === null || number === null) return undefined;
  return {
    revision: revisionName({ tenant, persona, number }),
    activatedBy: row.activated_by ?? "",
    ...(row.activated_at === null ? {} : { activateTime: timestampFromDate(row.activated_at) }),
    reason: row.activation_reason ?? "",
  };
}

/** What the audit says of a tenant: everything that people can change. */
export function auditedTenant(row: TenantRow) {
  return {
    displayName: row.display_name,
    context: row.context,
    alphaCapHundredths: row.alpha_cap_hundredths,
    requiredApprovals: row.required_approvals,
    approvers: [...row.approvers],
    approvalLifetimeSeconds: Number(row.approval_lifetime_seconds),
    revocation: row.revocation,
    stalenessLimitSeconds: Number(row.staleness_limit_seconds),
    maxVectors: row.max_vectors,
    maxVersions: row.max_versions,
    maxPersonas: row.max_personas,
    maxStoredBytes: String(row.max_stored_bytes),
    guard: auditedGuard(row),
    serving: auditedServing(row),
    deleted: row.deleted_at !== null,
  };
}
