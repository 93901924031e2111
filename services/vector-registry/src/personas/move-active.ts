import { type Selectable, sql } from "kysely";
import type { Mutation } from "../database/mutation.ts";
import { sendAhead } from "../database/registry-dialect.ts";
import type { TenantsTable } from "../database/schema.ts";
import { stateOf } from "../distribution/states.ts";
import { tenantOf } from "./persona-rows.ts";
import { type RevisionRows, revisionMessage } from "./read-revision.ts";

/**
 * Point the tenant at another active persona, or at none, with an entry in its history. Workers are told. The database
 * judges the gate once more.
 *
 * @param glass - the use of break-glass of this transaction that lets the revision past its gate
 * @returns the tenant's new row
 */
export async function moveActive(
  mutation: Mutation,
  {
    to,
    reason,
    glass,
  }: { readonly to: RevisionRows | undefined; readonly reason: string; readonly glass?: string | undefined },
): Promise<Selectable<TenantsTable>> {
  const { db, actor, now } = mutation;
  const { tenant } = tenantOf(mutation);
  const persona = to?.revision.persona ?? null;
  const number = to?.revision.number ?? null;
  const entry = db.insertInto("activations").values({
    tenant,
    // The tenant's row is locked: nobody else takes the next.
    number: sql<number>`(SELECT coalesce(max(number), 0) + 1 FROM activations WHERE tenant = ${tenant})`,
    persona,
    persona_number: number,
    reason,
    activated_by: actor,
    break_glass: glass ?? null,
  });
  await sendAhead(db, entry.compile());
  const row = await db
    .updateTable("tenants")
    .set({
      active_persona: persona,
      active_number: number,
      activated_by: persona === null ? null : actor,
      activated_at: persona === null ? null : now,
      activation_reason: persona === null ? null : reason,
      active_break_glass: glass ?? null,
      updated_at: now,
      etag: sql`etag + 1`,
    })
    .where("tenant", "=", tenant)
    .returningAll()
    .executeTakeFirstOrThrow();
  mutation.emit(stateOf(row, to === undefined ? undefined : revisionMessage(to)));
  return row;
}
