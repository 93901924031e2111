import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { ServiceError } from "@persona-mesh/service";
import { type Kysely, sql } from "kysely";
import { type Migration, Migrator } from "kysely/migration";
import { connectDatabase } from "./connect.ts";
import type { DatabaseUrlOptions } from "./connection-url.ts";
import type { Database } from "./schema.ts";

export interface MigrateOptions extends DatabaseUrlOptions {
  /** Of a login that may create roles and schemas in the database, or that owns what an earlier run made. */
  readonly url: string;
  /** The SQL files, `NNNN-name.sql`. @default the registry's own */
  readonly folder?: URL;
}

/** One SQL file. */
interface MigrationFile {
  /** File name without `.sql`. */
  readonly name: string;
  readonly text: string;
  readonly sha256: string;
}

/**
 * Bring the schema up to date. Forward only: what is applied stays, and a file that was applied never changes. Several
 * replicas may start at once: they wait for one another, and those that come later find nothing to do. All pending files are
 * applied in one transaction, so a failed update leaves the schema as it was.
 *
 * kysely's Migrator does the ordering and the bookkeeping; the digests of applied files are kept beside it.
 *
 * @returns the names of the files that were applied now
 * @throws ServiceError DATABASE_SCHEMA when the database knows files that are missing here or differ
 */
export async function migrateDatabase(options: MigrateOptions): Promise<readonly string[]> {
  const files = readMigrations(options.folder ?? MIGRATIONS);
  const pool = connectDatabase({
    ...options,
    applicationName: "persona-registry-migration",
    maxConnections: 1,
    statementTimeoutMs: 0,
    lockTimeoutMs: MAX_WAIT_MS,
    idleInTransactionTimeoutMs: MAX_WAIT_MS,
  });
  try {
    return await (pool.db as Kysely<unknown>).connection().execute(async (db) => {
      await sql`SELECT pg_advisory_lock(${LOCK})`.execute(db);
      await prepare(db as Kysely<Bookkeeping>);
      await assertKnown(db, files);
      return await applyPending(db as Kysely<Bookkeeping>, files);
    });
  } finally {
    // Closing the session gives the lock back.
    await pool.close();
  }
}

/**
 * That the schema is the one these sources expect, for a service that may not migrate.
 *
 * @param db - connected under any role
 * @throws ServiceError DATABASE_SCHEMA also when files wait to be applied
 */
export async function assertMigrated(db: Kysely<Database>, folder: URL = MIGRATIONS): Promise<void> {
  const files = readMigrations(folder);
  const exists = await sql<{
    found: boolean;
  }>`SELECT to_regclass(${`${SCHEMA}.${DIGESTS}`}) IS NOT NULL AS found`.execute(db);
  const applied = exists.rows[0]?.found ? await assertKnown(db as Kysely<unknown>, files) : new Set<string>();
  const pending = files.filter(({ name }) => !applied.has(name)).map(({ name }) => name);
  if (pending.length > 0) {
    throw new ServiceError(
      "DATABASE_SCHEMA",
      `the database lacks ${pending.join(", ")}: give migrationDatabaseUrl, or run the migration first`,
    );
  }
}

const MIGRATIONS = new URL("../migrations/", import.meta.url);
const SCHEMA = "persona_migration";
const DIGESTS = "digests";
/** Names the advisory lock; any number that nobody else takes in this database. */
const LOCK = "6009221873530127431";
/** Longest wait for another replica that migrates, and for locks of running transactions, in milliseconds. */
const MAX_WAIT_MS = 60_000;
const FILE_NAME = /^(\d{4}-[a-z0-9-]+)\.sql$/;

interface Bookkeeping {
  readonly digests: { readonly name: string; readonly sha256: string };
}

function readMigrations(folder: URL): MigrationFile[] {
  const names = readdirSync(folder).filter((name) => name.endsWith(".sql"));
  return names.sort().map((fileName) => {
    const name = FILE_NAME.exec(fileName)?.[1];
    if (name === undefined) throw new Error(`${fileName} is not NNNN-name.sql`);
    const text = readFileSync(new URL(fileName, folder), "utf8");
    return { name, text, sha256: createHash("sha256").update(text).digest("hex") };
  });
}

async function prepare(db: Kysely<Bookkeeping>): Promise<void> {
  await db.schema.createSchema(SCHEMA).ifNotExists().execute();
  await db.schema
    .withSchema(SCHEMA)
    .createTable(DIGESTS)
    .ifNotExists()
    .addColumn("name", "text", (column) => column.primaryKey())
    .addColumn("sha256", "text", (column) => column.notNull())
    .execute();
  // Every replica compares, whatever its role.
  await sql`GRANT USAGE ON SCHEMA ${sql.id(SCHEMA)} TO PUBLIC`.execute(db);
  await sql`GRANT SELECT ON ${sql.id(SCHEMA, DIGESTS)} TO PUBLIC`.execute(db);
}

/** The applied files, all of them known here with the same bytes. */
async function assertKnown(db: Kysely<unknown>, files: readonly MigrationFile[]): Promise<Set<string>> {
  const applied = await (db as Kysely<Bookkeeping>).withSchema(SCHEMA).selectFrom(DIGESTS).selectAll().execute();
  const known = new Map(files.map(({ name, sha256 }) => [name, sha256]));
  for (const { name, sha256 } of applied) {
    if (!known.has(name)) {
      throw new ServiceError(
        "DATABASE_SCHEMA",
        `the database has the migration ${name}, which this version of the registry does not know: it is too old for this database`,
      );
    }
    if (known.get(name) !== sha256) {
      throw new ServiceError(
        "DATABASE_SCHEMA",
        `the migration ${name} is not the one that was applied to the database`,
      );
    }
  }
  return new Set(applied.map(({ name }) => name));
}

async function applyPending(db: Kysely<Bookkeeping>, files: readonly MigrationFile[]): Promise<string[]> {
  const migrator = new Migrator({
    db,
    provider: {
      getMigrations: () => Promise.resolve(Object.fromEntries(files.map((file) => [file.name, toMigration(file)]))),
    },
    migrationTableSchema: SCHEMA,
    migrationTableName: "applied",
    migrationLockTableName: "lock",
  });
  const { error, results } = await migrator.migrateToLatest();
  if (error !== undefined) {
    const failed = results?.find(({ status }) => status === "Error")?.migrationName;
    throw failed === undefined ? error : new Error(`the migration ${failed} failed`, { cause: error });
  }
  return (results ?? []).map(({ migrationName }) => migrationName);
}

function toMigration({ name, text, sha256 }: MigrationFile): Migration {
  return {
    async up(db: Kysely<Bookkeeping>) {
      await sql.raw(text).execute(db);
      // A file sets role and path for itself; the bookkeeping is ours.
      await sql`RESET ROLE`.execute(db);
      await sql`RESET search_path`.execute(db);
      await db.withSchema(SCHEMA).insertInto(DIGESTS).values({ name, sha256 }).execute();
    },
  };
}
