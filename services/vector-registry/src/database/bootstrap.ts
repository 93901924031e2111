import { type Kysely, sql } from "kysely";
import { connectDatabase, DATABASE_ROLES } from "./connect.ts";
import type { EmbeddedPostgres } from "./embedded.ts";
import { migrateDatabase } from "./migrate.ts";
import { scramVerifier } from "./scram.ts";

/** Whom the services log in as. It owns nothing and may do nothing, except take one of the registry's roles. */
export const LOGIN = "persona_login";

/**
 * Make what an embedded server lacks at first: the database with its schema, and the login. A production database gets the
 * same from its operator; `docs/database.md` has the statements.
 *
 * @returns URL of the database for the login, and the names of the migrations that were applied now
 */
export async function bootstrapDatabase(
  server: EmbeddedPostgres,
  database = "persona",
): Promise<{ readonly url: string; readonly migrated: readonly string[] }> {
  await withSuperuser(server.url(), async (db) => {
    if (!(await exists(db, "pg_database", "datname", database))) {
      await sql`CREATE DATABASE ${sql.id(database)}`.execute(db);
    }
  });
  const migrated = await migrateDatabase({ url: server.url(database) });
  await withSuperuser(server.url(database), (db) => grantLogin(db, database, server.password(LOGIN)));
  return { url: server.url(database, LOGIN), migrated };
}

async function grantLogin(db: Kysely<never>, database: string, password: string): Promise<void> {
  const login = sql.id(LOGIN);
  const verifier = sql.lit(scramVerifier(password));
  if (await exists(db, "pg_roles", "rolname", LOGIN)) {
    await sql`ALTER ROLE ${login} PASSWORD ${verifier}`.execute(db);
  } else {
    await sql`CREATE ROLE ${login} LOGIN NOINHERIT PASSWORD ${verifier}`.execute(db);
  }
  for (const role of DATABASE_ROLES) {
    await sql`GRANT ${sql.id(role)} TO ${login} WITH INHERIT FALSE, SET TRUE`.execute(db);
  }
  await closeToOthers(db, database);
}

/** Only the login gets in, and makes no temporary tables. */
export async function closeToOthers(db: Kysely<never>, database: string): Promise<void> {
  await sql`REVOKE ALL ON DATABASE ${sql.id(database)} FROM PUBLIC`.execute(db);
  await sql`GRANT CONNECT ON DATABASE ${sql.id(database)} TO ${sql.id(LOGIN)}`.execute(db);
}

/** Under one lock: two replicas that start at once on one server do not get in each other's way. */
async function withSuperuser(url: string, work: (db: Kysely<never>) => Promise<void>): Promise<void> {
  const pool = connectDatabase({ url, maxConnections: 1, applicationName: "persona-registry-bootstrap" });
  try {
    await (pool.db as unknown as Kysely<never>).connection().execute(async (db) => {
      await sql`SELECT pg_advisory_lock(${LOCK})`.execute(db);
      await work(db);
    });
  } finally {
    await pool.close();
  }
}

/** Names the advisory lock; differs from the migration's. */
const LOCK = "6009221873530127432";

async function exists(db: Kysely<never>, catalog: string, column: string, name: string): Promise<boolean> {
  const { rows } = await sql`SELECT FROM ${sql.id("pg_catalog", catalog)} WHERE ${sql.id(column)} = ${name}`.execute(
    db,
  );
  return rows.length > 0;
}
