import type { MessageInitShape } from "@bufbuild/protobuf";
import { create } from "@bufbuild/protobuf";
import {
  type CreateTenantRequest,
  CreateTenantRequestSchema,
  CreateTenantResponseSchema,
  TenantSchema,
} from "@persona-mesh/protocol/registry";
import { type CallContext, PLATFORM_TENANT, ServiceError } from "@persona-mesh/service";
import { tenantState } from "../distribution/states.ts";
import { alreadyExists } from "../failures.ts";
import type { Registry } from "../registry.ts";
import { requireId, TENANT_NAME } from "../resource-name.ts";
import { columnsOf, presentPaths } from "./tenant-columns.ts";
import { auditedTenant, tenantWith } from "./tenant-message.ts";

/** Make a tenant, with its first policy: later changes of that are its approvers'. */
export async function createTenant(
  { transactor }: Registry,
  request: CreateTenantRequest,
  context: CallContext,
): Promise<MessageInitShape<typeof CreateTenantResponseSchema>> {
  const tenant = requireId(request.tenantId, "tenant_id");
  if (tenant === PLATFORM_TENANT) {
    throw ServiceError.invalid([{ field: "tenant_id", description: `"${tenant}" is reserved` }]);
  }
  const given = request.tenant ?? create(TenantSchema);
  const columns = columnsOf(given, new Set(presentPaths(given)));
  const resource = TENANT_NAME.format({ tenant });
  const scope = {
    context,
    tenant: PLATFORM_TENANT,
    resource,
    request,
    requestSchema: CreateTenantRequestSchema,
    responseSchema: CreateTenantResponseSchema,
  };
  return transactor.mutate(scope, async (mutation) => {
    const row = await mutation.db
      .insertInto("tenants")
      .values({ ...columns, tenant } as never)
      .onConflict((conflict) => conflict.column("tenant").doNothing())
      .returningAll()
      .executeTakeFirst();
    if (row === undefined) throw alreadyExists(resource);
    mutation.audit({ action: "CreateTenant", resource, tenant, after: auditedTenant(row) });
    mutation.emit(await tenantState(mutation.db, row));
    return { tenant: tenantWith(row, 0) };
  });
}
