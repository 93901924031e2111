import { createHash } from "node:crypto";
import { sql } from "kysely";
import type { DatabasePool } from "../database/connect.ts";

/**
 * A digest of every row of every table: the same again where nothing at all was written. Roots of the audit are left out, for
 * those are signed by the clock.
 *
 * @param owner - the superuser's, whom no policy hides rows from
 */
export async function digestOfDatabase({ db }: Pick<DatabasePool, "db">): Promise<string> {
  const { rows: tables } = await sql<{ name: string }>`
    SELECT relname AS name FROM pg_class
    WHERE relnamespace = 'registry'::regnamespace AND relkind = 'r' AND relname NOT LIKE 'audit_root%'
    ORDER BY relname`.execute(db);
  const hash = createHash("sha256");
  for (const { name } of tables) {
    const { rows } = await sql<{ digest: string }>`
      SELECT md5(coalesce(string_agg(t::text, ',' ORDER BY t::text), '')) AS digest
      FROM ${sql.id("registry", name)} t`.execute(db);
    hash.update(`${name} ${rows[0]?.digest}\n`);
  }
  return hash.digest("hex");
}
