import { ServiceError } from "@persona-mesh/service";
import { sql } from "kysely";
import type { Mutation } from "../database/mutation.ts";
import { tenantOf, type VectorIds } from "./vector-rows.ts";

// The tenant's row is locked: what is counted here does not change before the commit.

/** @throws ServiceError QUOTA_EXCEEDED */
export async function requireVectorQuota(mutation: Mutation): Promise<void> {
  const { tenant, max_vectors: limit } = tenantOf(mutation);
  const { rows } = await sql<{ count: bigint }>`
    SELECT count(*) AS count FROM vectors WHERE tenant = ${tenant} AND deleted_at IS NULL`.execute(mutation.db);
  require(Number(rows[0]?.count) < limit, `tenants/${tenant} has ${limit} vectors, as many as its quota allows`);
}

/** @throws ServiceError QUOTA_EXCEEDED */
export async function requireVersionQuota(
  mutation: Mutation,
  { tenant, vector }: VectorIds,
  bytes: number,
): Promise<void> {
  const { max_versions: limit, max_stored_bytes: mostBytes } = tenantOf(mutation);
  const { rows } = await sql<{ versions: bigint; bytes: string }>`
    SELECT (SELECT count(*) FROM versions WHERE tenant = ${tenant} AND vector = ${vector}) AS versions,
           (SELECT coalesce(sum(size_bytes), 0) FROM contents WHERE tenant = ${tenant}) AS bytes`.execute(mutation.db);
  const [stored] = rows;
  const name = `tenants/${tenant}/vectors/${vector}`;
  require(Number(stored?.versions) < limit, `"${name}" has ${limit} versions, as many as the quota allows`);
  require(BigInt(stored?.bytes ?? 0) + BigInt(bytes) <=
    mostBytes, `tenants/${tenant} would have more than the ${mostBytes} bytes of its quota`);
}

function require(condition: boolean, message: string): void {
  if (!condition) throw new ServiceError("QUOTA_EXCEEDED", message);
}
