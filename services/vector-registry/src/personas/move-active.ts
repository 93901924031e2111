import { type Selectable, sql } from "kysely";
import type { TenantsTable } from "../database/schema.ts";
import type { Mutation } from "../database/transaction.ts";
import { tenantState } from "../distribution/states.ts";
import { tenantOf } from "./persona-rows.ts";
import type { RevisionKey } from "./read-revision.ts";

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
  }: { readonly to: RevisionKey | undefined; readonly reason: string; readonly glass?: string | undefined },
): Promise<Selectable<TenantsTable>> {
  const { db, actor, now } = mutation;
  const { tenant } = tenantOf(mutation);
  const { last } = await db
    .selectFrom("activations")
    .select(sql<number>`coalesce(max(number), 0)`.as("last"))
    .where("tenant", "=", tenant)
    .executeTakeFirstOrThrow();
  const persona = to?.persona ?? null;
  const number = to?.number ?? null;
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
  await db
    .insertInto("activations")
    .values({
      tenant,
      number: last + 1,
      persona,
      persona_number: number,
      reason,
      activated_by: actor,
      break_glass: glass ?? null,
    })
    .execute();
  mutation.emit(await tenantState(db, row));
  return row;
}
