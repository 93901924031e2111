import { setTimeout as delay } from "node:timers/promises";
import { Kysely } from "kysely";
import { type Client, Pool, type PoolConfig, types } from "pg";
import { type DatabaseUrlOptions, parseDatabaseUrl } from "./connection-url.ts";
import { RegistryDialect } from "./registry-dialect.ts";
import type { Database } from "./schema.ts";

/** Roles of the database that the registry works under; a connection has one for its whole life. */
export const DATABASE_ROLES = ["persona_service", "persona_watch", "persona_auditor"] as const;
export type DatabaseRole = (typeof DATABASE_ROLES)[number];

export interface ConnectOptions extends DatabaseUrlOptions {
  /** See {@link parseDatabaseUrl}. The login must be a member of `role` that may SET it. */
  readonly url: string;
  /** In force from the first statement on; undefined works as the login itself. */
  readonly role?: DatabaseRole;
  /** What `pg_stat_activity` shows; names service and replica. At most 63 bytes. @default "persona-registry" */
  readonly applicationName?: string;
  /** Most connections. A handful per core of the database server is enough; more only wait there. @default 10 */
  readonly maxConnections?: number;
  /** Longest wait for a connection, new or returned, in milliseconds. @default 5000 */
  readonly acquireTimeoutMs?: number;
  /** Longest statement, in milliseconds; the server ends it. @default 10000 */
  readonly statementTimeoutMs?: number;
  /** Longest wait for a lock, in milliseconds: below the statement's, so that the error names the lock. @default 5000 */
  readonly lockTimeoutMs?: number;
  /** After which the server ends a session that holds a transaction and says nothing, in milliseconds. @default 15000 */
  readonly idleInTransactionTimeoutMs?: number;
  /** Called for each connection that broke while nobody waited for it. The pool replaces it by itself. */
  readonly onConnectionLost?: (error: Error) => void;
}

/** Connections of one role, as kysely. `bigint` columns are bigint, `bytea` Buffer, `timestamptz` Date. */
export interface DatabasePool {
  readonly db: Kysely<Database>;
  /** The driver's pool under it, for LISTEN and other work that needs one connection to itself. */
  readonly pool: Pool;
  /** Host and database, without credentials. */
  readonly shown: string;
  readonly metrics: PoolMetrics;
  /**
   * Waits for connections that are in use, then cuts them off. Further calls give the same promise.
   *
   * @param graceMs - longest wait, in milliseconds
   * @default 5000
   */
  close(graceMs?: number): Promise<void>;
}

/** Gauges, read when they are scraped. */
export interface PoolMetrics {
  readonly maxConnections: number;
  readonly open: number;
  readonly idle: number;
  /** Callers that wait for a connection. */
  readonly waiting: number;
  /** Connections opened since the start. */
  readonly opened: number;
  /** Connections that broke while nobody waited for them, since the start. */
  readonly lost: number;
}

/**
 * Open a pool. Nothing connects before the first statement, so a database that is away shows there, as an error that
 * `databaseErrors` maps.
 *
 * @throws ServiceError CONFIG_INVALID when the URL is refused
 */
export function connectDatabase(options: ConnectOptions): DatabasePool {
  const { connection, shown } = parseDatabaseUrl(options.url, options);
  const pool = new Pool({ ...connection, ...poolSettings(options) });
  let opened = 0;
  let lost = 0;
  let closing: Promise<void> | undefined;
  const onLost = (error: Error) => {
    // While the pool closes, a server that ends at the same time is faster than a connection's goodbye.
    if (closing !== undefined) return;
    lost++;
    options.onConnectionLost?.(error);
  };
  pool.on("error", onLost);
  pool.on("connect", (client) => {
    opened++;
    // The pool listens to idle connections only: one that breaks between two statements of a transaction would
    // otherwise end the process. The next statement on it fails, which is where it is handled.
    client.on("error", () => undefined);
  });
  const clients = new Set<Client>();
  pool.on("connect", (client) => clients.add(client));
  pool.on("remove", (client) => clients.delete(client));
  const end = async (graceMs: number) => {
    const cut = setTimeout(() => {
      for (const client of clients) void client.end().catch(() => undefined);
    }, graceMs);
    // Only what is given back is closed; what is not, and what never answers, is cut off and counts as closed.
    const patience = delay(graceMs + CUT_GRACE_MS, undefined, { ref: false });
    await Promise.race([pool.end(), patience]);
    clearTimeout(cut);
  };
  const db = new Kysely<Database>({ dialect: new RegistryDialect(pool) });
  return {
    db,
    pool,
    shown,
    metrics: {
      maxConnections: pool.options.max,
      get open() {
        return pool.totalCount;
      },
      get idle() {
        return pool.idleCount;
      },
      get waiting() {
        return pool.waitingCount;
      },
      get opened() {
        return opened;
      },
      get lost() {
        return lost;
      },
    },
    close(graceMs = CLOSE_GRACE_MS) {
      closing ??= end(graceMs);
      return closing;
    },
  };
}

function poolSettings(options: ConnectOptions): PoolConfig {
  const statementTimeoutMs = options.statementTimeoutMs ?? 10_000;
  const role = options.role === undefined ? "" : ` -c role=${options.role}`;
  return {
    max: options.maxConnections ?? 10,
    connectionTimeoutMillis: options.acquireTimeoutMs ?? 5_000,
    idleTimeoutMillis: IDLE_TIMEOUT_MS,
    maxLifetimeSeconds: MAX_LIFETIME_S,
    // Statements are sent while earlier ones are under way; see RegistryDialect.
    pipeline: true,
    keepAlive: true,
    keepAliveInitialDelayMillis: KEEPALIVE_MS,
    application_name: options.applicationName ?? "persona-registry",
    statement_timeout: statementTimeoutMs,
    lock_timeout: options.lockTimeoutMs ?? 5_000,
    idle_in_transaction_session_timeout: options.idleInTransactionTimeoutMs ?? 15_000,
    // On this side too: where the server's machine is gone, nobody answers that the statement took too long.
    query_timeout: statementTimeoutMs === 0 ? 0 : statementTimeoutMs + ANSWER_GRACE_MS,
    options: `-c default_transaction_isolation=read\\ committed -c timezone=UTC -c search_path=registry${role}`,
    types: { getTypeParser },
  };
}

/** Idle connections are closed after this time: long enough that a steady load never reconnects. */
const IDLE_TIMEOUT_MS = 60_000;
/** Connections are replaced at this age, so that load spreads again after a failover. */
const MAX_LIFETIME_S = 1_800;
/** Silence after which TCP probes the peer. */
const KEEPALIVE_MS = 10_000;
/** How much later than the server this side gives a statement up: an answer under way still arrives. */
const ANSWER_GRACE_MS = 2_000;

/** How long statements may run on when the pool is closed. */
const CLOSE_GRACE_MS = 5_000;
/** And how long those may take to end that are cut off then. */
const CUT_GRACE_MS = 500;

const INT8 = 20;
const INT8_ARRAY = 1016;

/**
 * How columns are read. 64-bit integers are bigint, so that no revision is ever rounded. A Date has milliseconds and
 * PostgreSQL microseconds: what is compared, hashed or paged over must be truncated in the database.
 */
function getTypeParser(oid: number, format?: "text" | "binary") {
  if (format !== "binary") {
    if (oid === INT8) return BigInt;
    if (oid === INT8_ARRAY) return parseInt8Array;
  }
  return types.getTypeParser(oid, format as "text");
}

function parseInt8Array(text: string): (bigint | null)[] {
  const parse = types.getTypeParser(INT8_ARRAY as number, "text") as unknown as (text: string) => (string | null)[];
  return parse(text).map((item) => (item === null ? null : BigInt(item)));
}
