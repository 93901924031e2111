import { sql } from "kysely";
import type { Tx } from "../database/tx.ts";
import { ALIAS_NAME, PERSONA_NAME } from "../resource-name.ts";
import type { VectorIds } from "./vector-rows.ts";

/** More are not looked for: nobody reads on. */
const MAX_REFERRERS = 100;

/** Aliases and personas that use a vector: nobody may take it from under them. */
export function referrersOfVector(db: Tx, { tenant, vector }: VectorIds): Promise<string[]> {
  return referrers(db, tenant, sql<boolean>`vector = ${vector}`);
}

/** Aliases and personas that stand for these bytes, under whichever vector of the tenant. */
export function referrersOfDigest(db: Tx, tenant: string, digest: string): Promise<string[]> {
  return referrers(db, tenant, sql<boolean>`digest = ${digest}`);
}

/** Personas that follow an alias. */
export async function followersOfAlias(
  db: Tx,
  { tenant, vector, alias }: VectorIds & { readonly alias: string },
): Promise<string[]> {
  return personas(db, tenant, sql<boolean>`vector = ${vector} AND alias = ${alias}`);
}

async function referrers(db: Tx, tenant: string, condition: ReturnType<typeof sql<boolean>>): Promise<string[]> {
  const aliases = await db
    .selectFrom("aliases")
    .select(["tenant", "vector", "alias"])
    .where("tenant", "=", tenant)
    .where(condition)
    .orderBy("vector")
    .orderBy("alias")
    .limit(MAX_REFERRERS)
    .execute();
  return [...aliases.map((row) => ALIAS_NAME.format(row)), ...(await personas(db, tenant, condition))];
}

/** Of personas, what is in force counts: the latest, the released and the active revision. Past ones are history. */
async function personas(db: Tx, tenant: string, condition: ReturnType<typeof sql<boolean>>): Promise<string[]> {
  const { rows } = await sql<{ persona: string }>`
    SELECT p.persona FROM personas p JOIN tenants n ON n.tenant = p.tenant
    WHERE p.tenant = ${tenant} AND p.deleted_at IS NULL AND EXISTS (
      SELECT FROM (SELECT * FROM persona_terms t WHERE t.tenant = p.tenant AND t.persona = p.persona
        AND (t.number IN (p.latest, p.released)
             OR (n.active_persona = p.persona AND n.active_number = t.number))) used
      WHERE ${condition})
    ORDER BY p.persona LIMIT ${MAX_REFERRERS}`.execute(db);
  return rows.map(({ persona }) => PERSONA_NAME.format({ tenant, persona }));
}
