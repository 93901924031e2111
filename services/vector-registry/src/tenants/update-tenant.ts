import type { MessageInitShape } from "@bufbuild/protobuf";
import {
  type UpdateTenantRequest,
  UpdateTenantRequestSchema,
  UpdateTenantResponseSchema,
} from "@persona-mesh/protocol/registry";
import { type CallContext, PLATFORM_TENANT, ServiceError } from "@persona-mesh/service";
import { sql } from "kysely";
import { tenantState } from "../distribution/states.ts";
import { requireEtag } from "../etag.ts";
import { releaseReady } from "../personas/release.ts";
import type { Registry } from "../registry.ts";
import { REASON, requireFields, textViolations, updatedPaths } from "../request-fields.ts";
import { TENANT_NAME } from "../resource-name.ts";
import { lockedTenant } from "./locked-tenant.ts";
import { SERVING_PATHS } from "./serving-columns.ts";
import {
  ADMIN_PATHS,
  APPROVER_PATHS,
  columnsOf,
  PLATFORM_PATHS,
  presentPaths,
  type TenantPath,
} from "./tenant-columns.ts";
import { auditedTenant, tenantMessage, tenantWith } from "./tenant-message.ts";

const ALL_PATHS: readonly TenantPath[] = [...ADMIN_PATHS, ...APPROVER_PATHS, ...PLATFORM_PATHS];

/**
 * Change a tenant: everyone what is theirs. What decides about approval and strength is for approvers, so that no admin can
 * wave through alone what the tenant wants two people for.
 */
export async function updateTenant(
  { transactor }: Registry,
  request: UpdateTenantRequest,
  context: CallContext,
): Promise<MessageInitShape<typeof UpdateTenantResponseSchema>> {
  const given = request.tenant;
  const resource = given?.name ?? "";
  const { tenant } = TENANT_NAME.parse(resource, "tenant.name");
  requireFields(textViolations("reason", request.reason, REASON));
  const paths = given === undefined ? new Set<TenantPath>() : pathsOf(request, presentPaths(given));
  const isPlatform = context.caller.tenant === PLATFORM_TENANT;
  const scope = {
    context,
    tenant: isPlatform ? PLATFORM_TENANT : tenant,
    resource,
    request,
    requestSchema: UpdateTenantRequestSchema,
    responseSchema: UpdateTenantResponseSchema,
  };
  return transactor.mutate(scope, async (mutation) => {
    requireRights(context, paths);
    const before = await lockedTenant(mutation, tenant);
    requireEtag(given?.etag ?? "", before, resource);
    const columns = given === undefined ? {} : columnsOf(given, paths, before);
    const row = await mutation.db
      .updateTable("tenants")
      .set({ ...columns, etag: sql`etag + 1`, updated_at: mutation.now })
      .where("tenant", "=", tenant)
      .returningAll()
      .executeTakeFirstOrThrow();
    mutation.audit({
      action: "UpdateTenant",
      resource,
      tenant,
      before: auditedTenant(before),
      after: auditedTenant(row),
      reason: request.reason,
    });
    if (isPlatform) {
      if (SERVING_PATHS.some((path) => paths.has(path))) {
        mutation.emit(await mutation.as(tenant, () => tenantState(mutation.db, row)));
      }
      return { tenant: tenantWith(row, 0) };
    }
    if (APPROVER_PATHS.some((path) => paths.has(path))) {
      mutation.emit(await tenantState(mutation.db, row));
      await releaseReady(mutation);
    }
    return { tenant: await tenantMessage(mutation.db, row) };
  });
}

function pathsOf(request: UpdateTenantRequest, present: readonly TenantPath[]): ReadonlySet<TenantPath> {
  const known = new Set(ALL_PATHS.flatMap(pathAndParents));
  const named = updatedPaths(request.updateMask, [...known], present);
  return new Set(ALL_PATHS.filter((path) => pathAndParents(path).some((each) => named.has(each))));
}

/** "a.b.c", "a", "a.b": a message stands for all that is in it. */
function pathAndParents(path: string): string[] {
  const parts = path.split(".");
  return [path, ...parts.slice(1).map((_, i) => parts.slice(0, i + 1).join("."))];
}

/** @throws ServiceError PERMISSION_DENIED naming the first path that is not the caller's to change */
function requireRights({ caller }: CallContext, paths: ReadonlySet<TenantPath>): void {
  const isPlatform = caller.tenant === PLATFORM_TENANT;
  const allowed = new Set<TenantPath>([
    ...(caller.roles.has("admin") ? ADMIN_PATHS : []),
    ...(caller.roles.has("approver") && !isPlatform ? APPROVER_PATHS : []),
    ...(caller.roles.has("admin") && isPlatform ? PLATFORM_PATHS : []),
  ]);
  for (const path of paths) {
    if (allowed.has(path)) continue;
    const who = (APPROVER_PATHS as readonly string[]).includes(path)
      ? "an approver of the tenant"
      : (PLATFORM_PATHS as readonly string[]).includes(path)
        ? "an admin of the platform"
        : "an admin";
    throw new ServiceError("PERMISSION_DENIED", `${path} is for ${who} to change`, { metadata: { path } });
  }
}
