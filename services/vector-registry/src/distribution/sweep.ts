import { type Kysely, sql } from "kysely";
import type { Database } from "../database/schema.ts";

/** Answers to repeated requests are kept as long as the contract says. The schema lets no younger one go. */
const ANSWERS_FOR = sql<Date>`now() - interval '1 day'`;

/** A worker that nobody heard of for so long is gone: each rollout brings pods of new names. */
const WORKERS_FOR = sql<Date>`now() - interval '7 days'`;

export interface Swept {
  /** How many answers to requests went. */
  readonly answers: number;
  /** How many workers. */
  readonly workers: number;
}

/**
 * Delete what grows with time and means nothing any more, of all tenants.
 *
 * @param db - connected as persona_watch
 */
export async function sweep(db: Kysely<Database>): Promise<Swept> {
  const answers = await db.deleteFrom("requests").where("created_at", "<", ANSWERS_FOR).executeTakeFirstOrThrow();
  const workers = await db
    .deleteFrom("workers")
    .where("reported_at", "<", WORKERS_FOR)
    .where(({ or, eb }) => or([eb("connected_until", "is", null), eb("connected_until", "<", WORKERS_FOR)]))
    .executeTakeFirstOrThrow();
  return { answers: Number(answers.numDeletedRows), workers: Number(workers.numDeletedRows) };
}
