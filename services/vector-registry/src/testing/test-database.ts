import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { sql } from "kysely";
import { bootstrapDatabase, closeToOthers, LOGIN } from "../database/bootstrap.ts";
import { connectDatabase, type DatabasePool, type DatabaseRole } from "../database/connect.ts";
import { type EmbeddedPostgres, openEmbedded } from "../database/embedded.ts";

/** An empty registry in a real PostgreSQL, alone in its database. */
export interface TestDatabase {
  /** For the login that may take the registry's roles and nothing else. */
  readonly url: string;
  /** For the superuser, whom nothing stops: to plant damage and to look behind the roles. */
  readonly ownerUrl: string;
  readonly server: EmbeddedPostgres;
  readonly service: DatabasePool;
  readonly watch: DatabasePool;
  readonly auditor: DatabasePool;
  readonly owner: DatabasePool;
  /** Another pool of this database, closed with it. */
  connect(role: DatabaseRole): DatabasePool;
  close(): Promise<void>;
}

/**
 * A fresh database. The server starts with the first one of a process and ends with the process, leaving nothing behind; each
 * database is a copy of one that was migrated once.
 */
export async function openTestDatabase(): Promise<TestDatabase> {
  server ??= startServer();
  const running = await server;
  const name = `test_${++count}`;
  await administer(running, async (db) => {
    await sql`CREATE DATABASE ${sql.id(name)} TEMPLATE ${sql.id(TEMPLATE)} STRATEGY FILE_COPY`.execute(db);
    // A copy has the template's tables, but not its privileges.
    await closeToOthers(db as never, name);
  });
  const url = running.url(name, LOGIN);
  const pools: DatabasePool[] = [];
  const open = (options: Parameters<typeof connectDatabase>[0]) => {
    const pool = connectDatabase(options);
    pools.push(pool);
    return pool;
  };
  const connect = (role: DatabaseRole) => open({ url, role });
  return {
    url,
    ownerUrl: running.url(name),
    server: running,
    service: connect("persona_service"),
    watch: connect("persona_watch"),
    auditor: connect("persona_auditor"),
    owner: open({ url: running.url(name) }),
    connect,
    async close() {
      await Promise.all(pools.map((pool) => pool.close()));
      await administer(running, (db) => sql`DROP DATABASE ${sql.id(name)} WITH (FORCE)`.execute(db));
    },
  };
}

const TEMPLATE = "persona_template";
let server: Promise<EmbeddedPostgres> | undefined;
let count = 0;

async function startServer(): Promise<EmbeddedPostgres> {
  const folder = mkdtempSync(join(tmpdir(), "persona-test-"));
  const started = await openEmbedded({ folder, durability: "scratch", temporary: true });
  await bootstrapDatabase(started, TEMPLATE);
  return started;
}

async function administer(
  running: EmbeddedPostgres,
  work: (db: DatabasePool["db"]) => Promise<unknown>,
): Promise<void> {
  const pool = connectDatabase({ url: running.url(), maxConnections: 1 });
  try {
    await work(pool.db);
  } finally {
    await pool.close();
  }
}
