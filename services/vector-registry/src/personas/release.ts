import { sql } from "kysely";
import type { Mutation } from "../database/mutation.ts";
import { personaChange } from "../distribution/states.ts";
import { PERSONA_NAME } from "../resource-name.ts";
import { keyOf, type RevisionKey, readRevisions, revisionName } from "./read-revision.ts";

/** Which personas a change can have made ready; all of the tenant's where nothing is set. */
export interface ReadyScope {
  /** Those that use this version of this vector. */
  readonly vector?: string;
  readonly digest?: string;
  /** These alone. */
  readonly personas?: readonly string[];
}

/** Of a persona's newest revisions, so many can become the released one: bounds what an approval costs. */
const NEWEST_CONSIDERED = 16;

/**
 * Release what has become ready: of each persona the newest revision whose gate is empty, where it is newer than the one
 * that is released. An older one stays in force until then. Workers are told.
 *
 * Whoever changes what gates depend on calls this in the same transaction, afterwards: approvals, evaluations, policies,
 * caps, and personas themselves.
 *
 * @returns names of the revisions that are released from now on, by persona
 */
export async function releaseReady(
  mutation: Mutation,
  { vector, digest, personas }: ReadyScope = {},
): Promise<string[]> {
  const { db, tenantRow } = mutation;
  const tenant = tenantRow?.tenant;
  if (tenant === undefined) throw new Error("personas are released for a tenant");
  const { rows } = await sql<{ persona: string; number: number }>`
    SELECT p.persona, ready.number
    FROM personas p CROSS JOIN LATERAL (
      SELECT newest.number FROM (
        SELECT r.number FROM persona_revisions r
        WHERE r.tenant = p.tenant AND r.persona = p.persona AND r.number > coalesce(p.released, 0)
          AND r.number > p.latest - ${NEWEST_CONSIDERED}
        ORDER BY r.number DESC) newest
      WHERE NOT EXISTS (SELECT FROM persona_gate(p.tenant, p.persona, newest.number))
      ORDER BY newest.number DESC LIMIT 1) ready
    WHERE p.tenant = ${tenant} AND p.deleted_at IS NULL AND p.latest > coalesce(p.released, 0)
      AND (${digest ?? null}::text IS NULL OR EXISTS (
        SELECT FROM persona_terms t
        WHERE t.tenant = p.tenant AND t.persona = p.persona AND t.number > coalesce(p.released, 0)
          AND t.vector = ${vector ?? null}::text AND t.digest = ${digest ?? null}::text))
      AND (${personas === undefined ? null : [...personas]}::text[] IS NULL
           OR p.persona = ANY (${personas === undefined ? null : [...personas]}::text[]))
    ORDER BY p.persona`.execute(db);
  const keys = rows.map(({ persona, number }): RevisionKey => ({ tenant, persona, number }));
  if (keys.length > 0) await release(mutation, tenant, keys);
  return keys.map(revisionName);
}

/** Statements for all of them together: an alias may have taken hundreds along. */
async function release(mutation: Mutation, tenant: string, keys: readonly RevisionKey[]): Promise<void> {
  const { db } = mutation;
  const personas = keys.map(({ persona }) => persona);
  const numbers = keys.map(({ number }) => number);
  const { rows: before } = await sql<{ persona: string; released: number | null }>`
    UPDATE personas p SET released = r.number, etag = p.etag + 1, updated_at = now()
    FROM unnest(${personas}::text[], ${numbers}::integer[]) AS r (persona, number)
    JOIN personas old ON old.tenant = ${tenant} AND old.persona = r.persona
    WHERE p.tenant = ${tenant} AND p.persona = r.persona RETURNING p.persona, old.released`.execute(db);
  const releasedBefore = new Map(before.map(({ persona, released }) => [persona, released]));
  const models = await modelsOf(mutation, tenant, personas);
  const revisions = await readRevisions(db, keys);
  for (const key of keys) {
    const { persona, number } = key;
    mutation.audit({
      action: "ReleaseRevision",
      resource: PERSONA_NAME.format(key),
      before: { released: releasedBefore.get(persona) ?? null },
      after: { released: number },
    });
    const revision = revisions.get(keyOf(key));
    for (const modelChecksum of models.get(persona) ?? []) {
      const served = revision?.modelChecksum === modelChecksum ? revision : undefined;
      mutation.emit({ modelChecksum, change: personaChange(tenant, persona, served) });
    }
  }
}

/** The models of all revisions that personas ever had: workers of a former one drop the persona. */
async function modelsOf(
  { db }: Mutation,
  tenant: string,
  personas: readonly string[],
): Promise<ReadonlyMap<string, readonly string[]>> {
  const rows = await db
    .selectFrom("persona_revisions")
    .select(["persona", "model_checksum"])
    .distinct()
    .where("tenant", "=", tenant)
    .where(sql<boolean>`persona = ANY (${personas}::text[])`)
    .orderBy("model_checksum")
    .execute();
  const models = new Map<string, string[]>();
  for (const { persona, model_checksum: model } of rows) models.set(persona, [...(models.get(persona) ?? []), model]);
  return models;
}
