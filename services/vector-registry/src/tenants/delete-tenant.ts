import type { MessageInitShape } from "@bufbuild/protobuf";
import {
  type DeleteTenantRequest,
  DeleteTenantRequestSchema,
  DeleteTenantResponseSchema,
  type UndeleteTenantRequest,
  UndeleteTenantRequestSchema,
  UndeleteTenantResponseSchema,
} from "@persona-mesh/protocol/registry";
import { type CallContext, PLATFORM_TENANT } from "@persona-mesh/service";
import { type Selectable, sql } from "kysely";
import type { Mutation } from "../database/mutation.ts";
import type { TenantsTable } from "../database/schema.ts";
import { personaStates, tenantState } from "../distribution/states.ts";
import { requireEtag } from "../etag.ts";
import type { Registry } from "../registry.ts";
import { REASON, requireFields, textViolations } from "../request-fields.ts";
import { TENANT_NAME } from "../resource-name.ts";
import { lockedTenant } from "./locked-tenant.ts";
import { auditedTenant, tenantWith } from "./tenant-message.ts";

/** Take a tenant away from workers; nothing of it is lost. Deleting a deleted one changes nothing. */
export async function deleteTenant(
  { transactor }: Registry,
  request: DeleteTenantRequest,
  context: CallContext,
): Promise<MessageInitShape<typeof DeleteTenantResponseSchema>> {
  const { tenant } = TENANT_NAME.parse(request.name, "name");
  requireFields(textViolations("reason", request.reason, REASON));
  const scope = {
    context,
    tenant: PLATFORM_TENANT,
    resource: request.name,
    request,
    requestSchema: DeleteTenantRequestSchema,
    responseSchema: DeleteTenantResponseSchema,
  };
  return transactor.mutate(scope, async (mutation) => {
    const before = await lockedTenant(mutation, tenant);
    requireEtag(request.etag, before, request.name);
    if (before.deleted_at !== null) return { tenant: tenantWith(before, 0) };
    const row = await setDeleted(mutation, tenant, mutation.now);
    mutation.audit({
      action: "DeleteTenant",
      resource: request.name,
      tenant,
      before: auditedTenant(before),
      after: auditedTenant(row),
      reason: request.reason,
    });
    mutation.emit(await mutation.as(tenant, () => tenantState(mutation.db, row)));
    return { tenant: tenantWith(row, 0) };
  });
}

/** Bring a tenant back as it was: workers are told of all of it again. */
export async function undeleteTenant(
  { transactor }: Registry,
  request: UndeleteTenantRequest,
  context: CallContext,
): Promise<MessageInitShape<typeof UndeleteTenantResponseSchema>> {
  const { tenant } = TENANT_NAME.parse(request.name, "name");
  requireFields(textViolations("reason", request.reason, REASON));
  const scope = {
    context,
    tenant: PLATFORM_TENANT,
    resource: request.name,
    request,
    requestSchema: UndeleteTenantRequestSchema,
    responseSchema: UndeleteTenantResponseSchema,
  };
  return transactor.mutate(scope, async (mutation) => {
    const before = await lockedTenant(mutation, tenant);
    requireEtag(request.etag, before, request.name);
    if (before.deleted_at === null) return { tenant: tenantWith(before, 0) };
    const row = await setDeleted(mutation, tenant, null);
    mutation.audit({
      action: "UndeleteTenant",
      resource: request.name,
      tenant,
      before: auditedTenant(before),
      after: auditedTenant(row),
      reason: request.reason,
    });
    await mutation.as(tenant, () => emitAll(mutation, row));
    return { tenant: tenantWith(row, 0) };
  });
}

async function emitAll(mutation: Mutation, row: Selectable<TenantsTable>): Promise<void> {
  const { db } = mutation;
  const personas = await db
    .selectFrom("personas")
    .select(["tenant", "persona"])
    .where("tenant", "=", row.tenant)
    .where("deleted_at", "is", null)
    .where("released", "is not", null)
    .orderBy("persona")
    .execute();
  mutation.emit(await tenantState(db, row));
  for (const key of personas) {
    for (const { modelChecksum, change } of await personaStates(db, key)) {
      mutation.emit({ modelChecksum, change: { ...change, tenant: row.tenant } as typeof change });
    }
  }
}

async function setDeleted({ db, now }: Mutation, tenant: string, deletedAt: Date | null) {
  return db
    .updateTable("tenants")
    .set({ deleted_at: deletedAt, updated_at: now, etag: sql`etag + 1` })
    .where("tenant", "=", tenant)
    .returningAll()
    .executeTakeFirstOrThrow();
}
