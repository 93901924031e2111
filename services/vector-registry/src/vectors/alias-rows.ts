import type { MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import type { AliasSchema } from "@persona-mesh/protocol/registry";
import type { Selectable } from "kysely";
import type { AliasesTable } from "../database/schema.ts";
import type { Tx } from "../database/tx.ts";
import { etagOf } from "../etag.ts";
import { ALIAS_NAME, type Ids, VERSION_NAME } from "../resource-name.ts";

export type AliasIds = Ids<typeof ALIAS_NAME.pattern>;

export function readAlias(db: Tx, { tenant, vector, alias }: AliasIds): Promise<Selectable<AliasesTable> | undefined> {
  return db
    .selectFrom("aliases")
    .selectAll()
    .where("tenant", "=", tenant)
    .where("vector", "=", vector)
    .where("alias", "=", alias)
    .executeTakeFirst();
}

/** An alias as callers see it. */
export function aliasMessage(row: Selectable<AliasesTable>): MessageInitShape<typeof AliasSchema> {
  return {
    name: ALIAS_NAME.format(row),
    version: VERSION_NAME.format(row),
    reason: row.reason,
    updatedBy: row.updated_by,
    updateTime: timestampFromDate(row.updated_at),
    etag: etagOf(row),
  };
}
