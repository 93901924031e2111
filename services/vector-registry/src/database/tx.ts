import { type ControlledTransaction, sql } from "kysely";
import { sendAhead } from "./registry-dialect.ts";
import type { Database } from "./schema.ts";

/** A connection in the middle of a transaction that acts for one tenant. */
export type Tx = ControlledTransaction<Database>;

/** All that follows in this transaction sees and changes this tenant alone. */
export async function setTenant(tx: Tx, tenant: string): Promise<void> {
  await sendAhead(tx, sql`SELECT set_config('persona.tenant', ${tenant}, true)`.compile(tx));
}
