import { setTimeout as delay } from "node:timers/promises";
import { ServiceError } from "@persona-mesh/service";
import type { Kysely } from "kysely";
import { DatabaseError } from "pg";
import { bootstrapDatabase } from "./bootstrap.ts";
import { type ConnectOptions, connectDatabase, type DatabasePool, type DatabaseRole } from "./connect.ts";
import { isConnectFailure } from "./connection-lost.ts";
import { type KeptPostgres, keepRunning } from "./embedded/keep-running.ts";
import { assertWritable } from "./health.ts";
import { assertMigrated, migrateDatabase } from "./migrate.ts";
import type { Database } from "./schema.ts";

export interface OpenDatabaseOptions
  extends Pick<ConnectOptions, "allowPlainText" | "applicationName" | "maxConnections" | "onConnectionLost"> {
  /** A server to use; without one, an embedded server runs in `folder`. */
  readonly url?: string;
  /** Login that owns the schema: migrations are applied at the start. Without it they are only checked. */
  readonly migrationUrl?: string;
  /** Of the embedded server. */
  readonly folder: string;
  /** Told when the embedded server ended by itself (its exit code), and why it could not start again. It is tried on. */
  readonly onServerEnded?: (cause: number | unknown) => void;
  /** Longest wait for a server that does not answer yet, in milliseconds. @default 30000 */
  readonly startTimeoutMs?: number;
}

/** The registry's database: one pool per role. */
export interface RegistryDatabase {
  /** Acts for one tenant at a time. */
  readonly service: DatabasePool;
  /** Reads what workers serve. */
  readonly watch: DatabasePool;
  /** Signs the heads of the audit chains. */
  readonly auditor: DatabasePool;
  /** Where it is, without credentials. */
  readonly shown: string;
  /** Names of migrations that were applied at this start. */
  readonly migrated: readonly string[];
  /** The server that runs for us; undefined where a URL was given. */
  readonly embedded: KeptPostgres | undefined;
  close(): Promise<void>;
}

/** Connections for watching and for signing: few statements, at long intervals. */
const SIDE_CONNECTIONS = 4;

/**
 * Reach the database, with its schema as these sources expect it, and open the pools.
 *
 * @throws ServiceError CONFIG_INVALID, DATABASE_SCHEMA, DATABASE_EMBEDDED_FAILED; what `databaseErrors` maps
 */
export async function openDatabase(options: OpenDatabaseOptions): Promise<RegistryDatabase> {
  await using opened = new AsyncDisposableStack();
  let embedded: KeptPostgres | undefined;
  let url = options.url;
  let migrated: readonly string[] = [];
  if (url === undefined) {
    embedded = await keepRunning({ folder: options.folder }, options.onServerEnded);
    opened.defer(embedded.close);
    ({ url, migrated } = await bootstrapDatabase(embedded.current));
  } else if (options.migrationUrl !== undefined) {
    const migration = { url: options.migrationUrl, allowPlainText: options.allowPlainText ?? false };
    migrated = await untilAnswering(() => migrateDatabase(migration), options.startTimeoutMs);
  }
  const connect = (role: DatabaseRole, maxConnections?: number): DatabasePool => {
    const { startTimeoutMs: _, migrationUrl: __, folder: ___, onServerEnded: ____, ...settings } = options;
    const limit = maxConnections ?? options.maxConnections;
    const pool = connectDatabase({ ...settings, url, role, ...(limit === undefined ? {} : { maxConnections: limit }) });
    opened.defer(() => pool.close());
    return pool;
  };
  const service = connect("persona_service");
  const watch = connect("persona_watch", SIDE_CONNECTIONS);
  const auditor = connect("persona_auditor", SIDE_CONNECTIONS);
  await untilAnswering(() => assertUsable(service.db), options.startTimeoutMs);
  for (const { db } of [watch, auditor]) await untilAnswering(() => assertWritable(db), options.startTimeoutMs);
  const resources = opened.move();
  return {
    service,
    watch,
    auditor,
    shown: service.shown,
    migrated,
    embedded,
    close: () => resources.disposeAsync(),
  };
}

/** What the operator has to change before any start succeeds, told apart from a server that is away. */
function refusedLogin(error: unknown): unknown {
  if (!(error instanceof DatabaseError) || error.severity !== "FATAL" || !LOGIN_REFUSED.has(error.code ?? ""))
    return error;
  return new ServiceError("CONFIG_INVALID", `the database refuses the login of its URL: ${error.message}`, {
    cause: error,
  });
}

/**
 * Wrong user or password, no such database, no CONNECT on it, or a login that may not take the role that it asks for, or a
 * role that no migration has made yet.
 */
const LOGIN_REFUSED = new Set(["28000", "28P01", "3D000", "42501", "42704", "22023"]);

async function assertUsable(db: Kysely<Database>): Promise<void> {
  await assertWritable(db);
  await assertMigrated(db);
}

/** Wait for a server that is only starting, as services of a mesh that start together have to. */
async function untilAnswering<T>(work: () => Promise<T>, patienceMs = 30_000): Promise<T> {
  const deadline = performance.now() + patienceMs;
  while (true) {
    try {
      return await work();
    } catch (error) {
      if (!isConnectFailure(error) || performance.now() > deadline) throw refusedLogin(error);
      await delay(RETRY_MS);
    }
  }
}

const RETRY_MS = 250;
