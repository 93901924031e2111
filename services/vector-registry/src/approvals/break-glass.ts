import { randomUUID } from "node:crypto";
import { ServiceError } from "@persona-mesh/service";
import { type Kysely, sql } from "kysely";
import type { Mutation } from "../database/mutation.ts";
import type { Database } from "../database/schema.ts";
import { REQUIRED_REASON, requireFields, textViolations } from "../request-fields.ts";

/** What is done past approval. */
export interface BrokenGlass {
  /** The call's name: "SetAlias", "RollbackAlias", "ActivatePersona". */
  readonly action: string;
  /** Name of what is changed. */
  readonly resource: string;
  readonly justification: string;
}

/**
 * Break the glass: write down that approval is skipped in this transaction, by whom and why. The database lets past its gate
 * what names this use, in this transaction and no other; a second person is to review it.
 *
 * Nothing but approval can be skipped: revoked versions, alphas that nobody validated and doses over the budget stay out.
 *
 * @returns the id of the use
 * @throws ServiceError PERMISSION_DENIED without the role admin, INVALID_ARGUMENT without a justification
 */
export async function breakGlass(
  mutation: Mutation,
  { action, resource, justification }: BrokenGlass,
): Promise<string> {
  const { context, db, tenantRow } = mutation;
  if (!context.caller.roles.has("admin")) {
    throw new ServiceError("PERMISSION_DENIED", "break-glass takes the role admin", { metadata: { resource, action } });
  }
  if (tenantRow === undefined) throw new Error("break-glass outside of a tenant");
  requireFields(textViolations("break_glass.justification", justification, REQUIRED_REASON));
  const use = randomUUID();
  await db
    .insertInto("break_glass_uses")
    .values({ tenant: tenantRow.tenant, use, action, resource, actor: mutation.actor, justification })
    .execute();
  mutation.audit({ action: "BreakGlass", resource, after: { use, action }, reason: justification });
  mutation.announce({ use, action, resource, actor: mutation.actor }, "break-glass: approval is skipped");
  return use;
}

/** The use of break-glass that was written down in this transaction; undefined where there is none. */
export async function glassBrokenHere({ db, tenantRow }: Mutation): Promise<string | undefined> {
  const { rows } = await sql<{ use: string }>`
    SELECT use FROM break_glass_uses WHERE tenant = ${tenantRow?.tenant} AND glass_is_broken(tenant, use)
    LIMIT 1`.execute(db);
  return rows[0]?.use;
}

/** How many uses of break-glass of a tenant no second person has reviewed yet. */
export async function unreviewedBreakGlass(db: Kysely<Database>, tenant: string): Promise<number> {
  const { count } = await db
    .selectFrom("break_glass_uses")
    .select(({ fn }) => fn.countAll<bigint>().as("count"))
    .where("tenant", "=", tenant)
    .where("reviewed_at", "is", null)
    .executeTakeFirstOrThrow();
  return Number(count);
}
