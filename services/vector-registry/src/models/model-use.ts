import { sql } from "kysely";
import type { Tx } from "../database/tx.ts";

// Publishing and deleting a model lock different rows, and the row of the model only the platform may lock: an advisory lock
// of the checksum, until the end of the transaction, keeps a version from appearing while its model goes.

/** A version of this model is being published: until the end of the transaction nobody deletes the model. */
export async function holdModel(db: Tx, checksum: string): Promise<void> {
  await sql`SELECT pg_advisory_xact_lock_shared(hashtextextended(${`model ${checksum}`}, 0))`.execute(db);
}

/** Whether any tenant has a version of this model. Until the end of the transaction no more are published. */
export async function isModelUsed(db: Tx, checksum: string): Promise<boolean> {
  await sql`SELECT pg_advisory_xact_lock(hashtextextended(${`model ${checksum}`}, 0))`.execute(db);
  const { rows } = await sql<{ used: boolean }>`SELECT model_is_used(${checksum}) AS used`.execute(db);
  return rows[0]?.used === true;
}
