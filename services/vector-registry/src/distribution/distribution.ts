import type { Kysely } from "kysely";
import type { ReadAudit } from "../audit/read-audit.ts";
import type { Database } from "../database/schema.ts";
import type { ChangeFeed } from "./change-feed.ts";
import type { Presence } from "./presence.ts";
import type { ReportWriter } from "./report-writer.ts";
import type { Snapshots } from "./snapshot.ts";

/** What the calls of the distribution share. */
export interface Distribution {
  /** As persona_watch. */
  readonly db: Kysely<Database>;
  readonly feed: ChangeFeed;
  readonly snapshots: Snapshots;
  readonly presence: Presence;
  readonly reports: ReportWriter;
  readonly readAudit: ReadAudit;
}
