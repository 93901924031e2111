import { type Kysely, sql } from "kysely";
import type { Database, WorkersTable } from "../database/schema.ts";

/** What a worker says of itself. */
export interface Report {
  readonly worker: string;
  readonly modelChecksum: string;
  readonly state: WorkersTable["state"];
  readonly appliedRevision: bigint;
  /** JSON. */
  readonly problems: string;
}

/** Reports in one statement: what it holds in memory stays small. */
const REPORTS_AT_ONCE = 100;

interface Waiting {
  readonly report: Report;
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

/**
 * Writes what workers report. All of them report at every change, within milliseconds: those that come while others are being
 * written are written together, in one transaction.
 */
export class ReportWriter implements AsyncDisposable {
  readonly #db: Kysely<Database>;
  #waiting: Waiting[] = [];
  #writing: Promise<void> | undefined;

  /** @param db - connected as persona_watch */
  constructor(db: Kysely<Database>) {
    this.#db = db;
  }

  /** Resolves when the report is committed, or one that the same worker made after it. */
  write(report: Report): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ report, resolve, reject });
      this.#writing ??= this.#run().finally(() => {
        this.#writing = undefined;
      });
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#writing;
  }

  async #run(): Promise<void> {
    while (this.#waiting.length > 0) {
      const some = this.#waiting.splice(0, REPORTS_AT_ONCE);
      try {
        await this.#write(some.map(({ report }) => report));
        for (const { resolve } of some) resolve();
      } catch (error) {
        if (some.length === 1) some[0]?.reject(error);
        // One that the database refuses does not take the others along.
        else for (const each of some) await this.#write([each.report]).then(each.resolve, each.reject);
      }
    }
  }

  async #write(reports: readonly Report[]): Promise<void> {
    // The newest of a worker, and rows in one order everywhere: replicas cannot wait for each other.
    const newest = new Map(reports.map((report) => [`${report.worker} ${report.modelChecksum}`, report]));
    const rows = [...newest].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, report]) => report);
    await sql`
      INSERT INTO workers (worker, model_checksum, state, applied_revision, problems)
      SELECT r.worker, r.model, r.state, r.revision, r.problems::jsonb FROM unnest(
        ${rows.map(({ worker }) => worker)}::text[], ${rows.map(({ modelChecksum }) => modelChecksum)}::text[],
        ${rows.map(({ state }) => state)}::text[], ${rows.map(({ appliedRevision }) => appliedRevision)}::bigint[],
        ${rows.map(({ problems }) => problems)}::text[]) AS r (worker, model, state, revision, problems)
      ON CONFLICT (worker, model_checksum) DO UPDATE SET state = excluded.state,
        applied_revision = excluded.applied_revision, problems = excluded.problems, reported_at = now()`.execute(
      this.#db,
    );
  }
}
