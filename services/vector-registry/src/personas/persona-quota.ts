import { ServiceError } from "@persona-mesh/service";
import type { Mutation } from "../database/mutation.ts";
import { tenantOf } from "./persona-rows.ts";

/** @throws ServiceError QUOTA_EXCEEDED where there is no room for one more persona; deleted ones do not count */
export async function requirePersonaQuota(mutation: Mutation): Promise<void> {
  const { tenant, max_personas: limit } = tenantOf(mutation);
  const { count } = await mutation.db
    .selectFrom("personas")
    .select(({ fn }) => fn.countAll<bigint>().as("count"))
    .where("tenant", "=", tenant)
    .where("deleted_at", "is", null)
    .executeTakeFirstOrThrow();
  if (Number(count) < limit) return;
  throw new ServiceError("QUOTA_EXCEEDED", `tenants/${tenant} has ${count} personas, and its quota is ${limit}`, {
    metadata: { quota: "max_personas", limit: String(limit) },
  });
}
