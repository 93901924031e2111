import { fromBinary } from "@bufbuild/protobuf";
import { type Change, ChangeSchema } from "@persona-mesh/protocol/registry";
import type { Kysely, Selectable } from "kysely";
import type { ChangesTable, Database } from "../database/schema.ts";

/** A change as the table has it. */
export interface StoredChange {
  readonly revision: bigint;
  readonly modelChecksum: string | null;
  readonly change: Change;
}

/** Rows read at a time by the feed, and for a watcher that has fallen behind. */
const BATCH_ROWS = 1000;

/** Where the history of changes stands. */
export interface Counter {
  readonly revision: bigint;
  readonly compacted: bigint;
}

export function readCounter(db: Kysely<Database>): Promise<Counter> {
  return db.selectFrom("revision_counter").select(["revision", "compacted"]).executeTakeFirstOrThrow();
}

/** Whole revisions after `position`, about {@link BATCH_ROWS} rows of them; `upTo` is the last one that was looked at. */
export async function readBatch(
  db: Kysely<Database>,
  position: bigint,
  revision: bigint,
): Promise<{ rows: StoredChange[]; upTo: bigint }> {
  const rows = await readRows(db, position, revision, BATCH_ROWS);
  const last = rows.at(-1)?.revision;
  if (rows.length < BATCH_ROWS || last === undefined) return { rows, upTo: revision };
  // The batch may end within a revision: that one is left for the next batch, unless it is a batch by itself.
  if (rows[0]?.revision === last) return { rows: await readRows(db, last - 1n, last), upTo: last };
  return { rows: rows.filter((row) => row.revision < last), upTo: last - 1n };
}

async function readRows(
  db: Kysely<Database>,
  position: bigint,
  revision: bigint,
  limit?: number,
): Promise<StoredChange[]> {
  const rows = await db
    .selectFrom("changes")
    .select(["revision", "model_checksum", "body"])
    .where("revision", ">", position)
    .where("revision", "<=", revision)
    .orderBy("revision")
    .orderBy("part")
    .$if(limit !== undefined, (query) => query.limit(limit as number))
    .execute();
  return rows.map(storedChange);
}

export function storedChange(
  row: Pick<Selectable<ChangesTable>, "revision" | "model_checksum" | "body">,
): StoredChange {
  return {
    revision: row.revision,
    modelChecksum: row.model_checksum,
    change: fromBinary(ChangeSchema, row.body),
  };
}
