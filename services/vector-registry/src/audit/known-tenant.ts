import { PLATFORM_TENANT } from "@persona-mesh/service";
import type { Kysely } from "kysely";
import type { Database } from "../database/schema.ts";
import { notFound } from "../failures.ts";
import { TENANT_NAME } from "../resource-name.ts";

/** A deleted tenant keeps its audit; one that never was has none. @throws ServiceError RESOURCE_NOT_FOUND */
export async function requireKnownTenant(db: Kysely<Database>, tenant: string): Promise<void> {
  if (tenant === PLATFORM_TENANT) return;
  const row = await db.selectFrom("tenants").select("tenant").where("tenant", "=", tenant).executeTakeFirst();
  if (row === undefined) throw notFound(TENANT_NAME.format({ tenant }));
}
