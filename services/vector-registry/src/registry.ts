import type { Logger } from "@persona-mesh/service";
import type { Kysely } from "kysely";
import type { AuditRoots } from "./audit/audit-roots.ts";
import type { ReadAudit } from "./audit/read-audit.ts";
import type { Database } from "./database/schema.ts";
import type { Transactor } from "./database/transaction.ts";

/** What the calls of the registry share. */
export interface Registry {
  /** Everything that acts for one tenant. */
  readonly transactor: Transactor;
  /** As persona_watch: what workers serve, of all tenants. */
  readonly watchDatabase: Kysely<Database>;
  /** As persona_auditor: signed roots, and the heads under them. */
  readonly auditDatabase: Kysely<Database>;
  /** Writes down reads of vector bytes before they are answered. */
  readonly readAudit: ReadAudit;
  /** Signs the heads of the audit chains. */
  readonly auditRoots: Pick<AuditRoots, "sign">;
  readonly log: Logger;
}
