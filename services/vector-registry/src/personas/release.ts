import { sql } from "kysely";
import type { Mutation } from "../database/transaction.ts";
import { personaStates } from "../distribution/states.ts";
import { revisionName } from "./read-revision.ts";

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
  const released: string[] = [];
  for (const { persona, number } of rows) {
    const { rows: before } = await sql<{ released: number | null }>`
      UPDATE personas p SET released = ${number}, etag = p.etag + 1, updated_at = now()
      FROM (SELECT released FROM personas WHERE tenant = ${tenant} AND persona = ${persona}) old
      WHERE p.tenant = ${tenant} AND p.persona = ${persona} RETURNING old.released`.execute(db);
    mutation.audit({
      action: "ReleaseRevision",
      resource: `tenants/${tenant}/personas/${persona}`,
      before: { released: before[0]?.released ?? null },
      after: { released: number },
    });
    for (const change of await personaStates(db, { tenant, persona })) mutation.emit(change);
    released.push(revisionName({ tenant, persona, number }));
  }
  return released;
}
