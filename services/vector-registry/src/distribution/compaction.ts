import type { Logger } from "@persona-mesh/service";
import { type Kysely, sql } from "kysely";
import type { Database } from "../database/schema.ts";
import { sweep } from "./sweep.ts";

/** How often what is old is looked for. Milliseconds. */
const INTERVAL = 60_000;

export interface Retention {
  /** Changes younger than this stay, in seconds: how long a worker may be away and still resume. */
  readonly seconds: number;
  /** And so many of the newest stay, however old. */
  readonly changes: number;
}

/**
 * Delete changes that nobody should need any more. Who does gets a snapshot.
 *
 * @param db - connected as persona_watch
 * @returns the revision up to which changes are gone
 */
export async function compact(db: Kysely<Database>, { seconds, changes }: Retention): Promise<bigint> {
  return db.transaction().execute(async (tx) => {
    const { revision } = await sql<{ revision: bigint }>`
      SELECT greatest(
        (SELECT compacted FROM registry.revision_counter),
        least(
          (SELECT coalesce(max(revision), 0) FROM registry.changes
            WHERE created_at < now() - make_interval(secs => ${seconds})),
          (SELECT coalesce(min(revision), 1) - 1 FROM (
            SELECT revision FROM registry.changes ORDER BY revision DESC, part DESC LIMIT ${changes}) newest)
        )) AS revision`
      .execute(tx)
      .then(({ rows }) => rows[0] as { revision: bigint });
    // The mark first: a watcher that sees changes missing also sees that they are gone for good.
    await tx.updateTable("revision_counter").set({ compacted: revision }).execute();
    await tx.deleteFrom("changes").where("revision", "<=", revision).execute();
    return revision;
  });
}

/** Compact and sweep from time to time; every replica does, and they do not disturb each other. */
export function compactRegularly(db: Kysely<Database>, retention: Retention, log: Logger): AsyncDisposable {
  let running: Promise<void> = Promise.resolve();
  const timer = setInterval(() => {
    running = Promise.all([compact(db, retention), sweep(db)]).then(
      ([revision, swept]) => log.debug({ revision, ...swept }, "changes compacted"),
      (error: unknown) => log.warn({ err: error }, "what is old cannot be deleted"),
    );
  }, INTERVAL);
  timer.unref();
  return {
    async [Symbol.asyncDispose]() {
      clearInterval(timer);
      await running;
    },
  };
}
