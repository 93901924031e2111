import type { MessageInitShape } from "@bufbuild/protobuf";
import type {
  GetTenantRequest,
  GetTenantResponseSchema,
  ListTenantsRequest,
  ListTenantsResponseSchema,
} from "@persona-mesh/protocol/registry";
import { type CallContext, PLATFORM_TENANT } from "@persona-mesh/service";
import { notFound } from "../failures.ts";
import { pageOf } from "../paging.ts";
import type { Registry } from "../registry.ts";
import { TENANT_NAME } from "../resource-name.ts";
import { tenantMessage, tenantWith } from "./tenant-message.ts";

/** A caller's own tenant; any for the platform, which does not see inside. */
export async function getTenant(
  { transactor }: Registry,
  { name }: GetTenantRequest,
  context: CallContext,
): Promise<MessageInitShape<typeof GetTenantResponseSchema>> {
  const { tenant } = TENANT_NAME.parse(name, "name");
  const isPlatform = context.caller.tenant === PLATFORM_TENANT;
  return transactor.read(context, isPlatform ? PLATFORM_TENANT : tenant, name, async (db) => {
    const row = await db.selectFrom("tenants").selectAll().where("tenant", "=", tenant).executeTakeFirst();
    if (row === undefined) throw notFound(name);
    return { tenant: isPlatform ? tenantWith(row, 0) : await tenantMessage(db, row) };
  });
}

/** By name. The database shows everyone but the platform the own tenant alone. */
export async function listTenants(
  { transactor }: Registry,
  request: ListTenantsRequest,
  context: CallContext,
): Promise<MessageInitShape<typeof ListTenantsResponseSchema>> {
  const page = pageOf(request, "tenants", request.showDeleted);
  return transactor.read(context, context.caller.tenant, "tenants", async (db) => {
    const found = await db
      .selectFrom("tenants")
      .selectAll()
      .$if(!request.showDeleted, (query) => query.where("deleted_at", "is", null))
      .$if(page.after !== undefined, (query) => query.where("tenant", ">", page.after as string))
      .orderBy("tenant")
      .limit(page.limit + 1)
      .execute();
    const { rows, nextPageToken } = page.take(found, ({ tenant }) => tenant);
    // The platform does not see inside: what waits for review is the tenant's own affair.
    const own = context.caller.tenant !== PLATFORM_TENANT;
    const tenants = [];
    for (const row of rows) tenants.push(own ? await tenantMessage(db, row) : tenantWith(row, 0));
    return { tenants, nextPageToken };
  });
}
