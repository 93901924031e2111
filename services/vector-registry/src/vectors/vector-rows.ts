import type { MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { ResourceState, type VectorSchema } from "@persona-mesh/protocol/registry";
import { type Selectable, sql } from "kysely";
import type { Mutation } from "../database/mutation.ts";
import type { TenantsTable, VectorsTable } from "../database/schema.ts";
import type { Tx } from "../database/tx.ts";
import { etagOf } from "../etag.ts";
import { deleted, notFound } from "../failures.ts";
import { type Ids, VECTOR_NAME, VERSION_NAME } from "../resource-name.ts";

export type VectorIds = Ids<typeof VECTOR_NAME.pattern>;
export type VectorRow = Selectable<VectorsTable>;

/** @throws ServiceError RESOURCE_NOT_FOUND */
export async function readVector(db: Tx, { tenant, vector }: VectorIds): Promise<VectorRow> {
  const row = await db
    .selectFrom("vectors")
    .selectAll()
    .where("tenant", "=", tenant)
    .where("vector", "=", vector)
    .executeTakeFirst();
  if (row === undefined) throw notFound(VECTOR_NAME.format({ tenant, vector }));
  return row;
}

/** @throws ServiceError RESOURCE_NOT_FOUND, RESOURCE_DELETED */
export async function readLiveVector(db: Tx, ids: VectorIds): Promise<VectorRow> {
  const row = await readVector(db, ids);
  if (row.deleted_at !== null) throw deleted(VECTOR_NAME.format(ids));
  return row;
}

/** The locked row of the tenant whose vectors change. */
export function tenantOf({ tenantRow }: Mutation): Selectable<TenantsTable> {
  if (tenantRow === undefined) throw new Error("the platform has no vectors");
  return tenantRow;
}

/** Vectors as callers see them, with what they have: one statement for a page of them. */
export async function vectorMessages(
  db: Tx,
  rows: readonly VectorRow[],
): Promise<MessageInitShape<typeof VectorSchema>[]> {
  const [first] = rows;
  if (first === undefined) return [];
  const names = rows.map(({ vector }) => vector);
  const { rows: newest } = await sql<{ vector: string; digest: string; number: number }>`
    SELECT DISTINCT ON (vector) vector, digest, number FROM versions
    WHERE tenant = ${first.tenant} AND vector = ANY (${names}::text[]) ORDER BY vector, number DESC`.execute(db);
  const versions = new Map(newest.map((row) => [row.vector, row]));
  return rows.map((row) => {
    const latest = versions.get(row.vector);
    return {
      name: VECTOR_NAME.format(row),
      displayName: row.display_name,
      description: row.description,
      latestVersion: latest === undefined ? "" : VERSION_NAME.format({ ...row, digest: latest.digest }),
      // Numbers go from 1 without gaps, for versions are never removed.
      versionCount: latest?.number ?? 0,
      state: row.deleted_at === null ? ResourceState.ACTIVE : ResourceState.DELETED,
      createTime: timestampFromDate(row.created_at),
      updateTime: timestampFromDate(row.updated_at),
      ...(row.deleted_at === null ? {} : { deleteTime: timestampFromDate(row.deleted_at) }),
      etag: etagOf(row),
    };
  });
}

export async function vectorMessage(db: Tx, row: VectorRow): Promise<MessageInitShape<typeof VectorSchema>> {
  return (await vectorMessages(db, [row]))[0] as MessageInitShape<typeof VectorSchema>;
}
