import type { Selectable } from "kysely";
import type { Mutation } from "../database/mutation.ts";
import type { TenantsTable } from "../database/schema.ts";
import { notFound } from "../failures.ts";
import { TENANT_NAME } from "../resource-name.ts";

/** The tenant's row, locked: its own mutation has it already, the platform's takes it here. @throws ServiceError RESOURCE_NOT_FOUND */
export async function lockedTenant(mutation: Mutation, tenant: string): Promise<Selectable<TenantsTable>> {
  if (mutation.tenantRow !== undefined) return mutation.tenantRow;
  const row = await mutation.db
    .selectFrom("tenants")
    .selectAll()
    .where("tenant", "=", tenant)
    .forNoKeyUpdate()
    .executeTakeFirst();
  if (row === undefined) throw notFound(TENANT_NAME.format({ tenant }));
  return row;
}
