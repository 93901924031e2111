import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { createServer, connect as dial, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { toServiceError } from "@persona-mesh/service";
import { sql } from "kysely";
import { DatabaseError } from "pg";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { openTestDatabase, type TestDatabase } from "../testing/test-database.ts";
import { type ConnectOptions, connectDatabase, type DatabasePool } from "./connect.ts";
import { databaseErrors } from "./error-mapping.ts";
import { assertWritable, watchDatabase } from "./health.ts";
import { CommitUnknownError } from "./registry-dialect.ts";

let database: TestDatabase;
const opened: { close(): unknown }[] = [];

beforeAll(async () => {
  database = await openTestDatabase();
  await sql`CREATE TABLE public.notes (id integer PRIMARY KEY, parent integer REFERENCES public.notes)`.execute(
    database.owner.db,
  );
});
afterEach(async () => {
  for (const it of opened.splice(0).reverse()) await it.close();
});
afterAll(() => database.close());

/** Waits as long as a busy machine takes. */
const eventually = <T>(read: () => T) => expect.poll(read, { timeout: 10_000 });

const toError = (error: unknown) => toServiceError(error, [databaseErrors]);

function open(options: Partial<ConnectOptions> = {}): DatabasePool {
  const pool = connectDatabase({ url: database.ownerUrl, ...options });
  opened.push(pool);
  return pool;
}

async function value(pool: DatabasePool, expression: string): Promise<unknown> {
  const { rows } = await sql<{ value: unknown }>`SELECT ${sql.raw(expression)} AS value`.execute(pool.db);
  return rows[0]?.value;
}

test("a pool works under its role from the first statement on, and the login itself may do nothing", async () => {
  expect(await value(database.service, "current_user || ' ' || session_user")).toBe("persona_service persona_login");
  expect(await value(database.watch, "current_user")).toBe("persona_watch");
  expect(await value(database.auditor, "current_user")).toBe("persona_auditor");
  const bare = open({ url: database.url });
  expect(await value(bare, "current_user")).toBe("persona_login");
  await expect(sql`SELECT FROM registry.tenants`.execute(bare.db)).rejects.toMatchObject({ code: "42501" });
  await expect(sql`SET ROLE persona_owner`.execute(bare.db)).rejects.toMatchObject({ code: "42501" });
});

test("settings that bound a statement are in force", async () => {
  const pool = open({ statementTimeoutMs: 1_500, lockTimeoutMs: 700, idleInTransactionTimeoutMs: 900 });
  const settings = ["statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "timezone"];
  const found = await Promise.all(settings.map((name) => value(pool, `current_setting('${name}')`)));
  expect(found).toEqual(["1500ms", "700ms", "900ms", "UTC"]);
  expect(await value(pool, "current_setting('default_transaction_isolation')")).toBe("read committed");
});

test("64-bit integers are exact, bytes are a Buffer", async () => {
  expect(await value(database.owner, "9007199254740993::int8")).toBe(9007199254740993n);
  expect(await value(database.owner, "'{1,NULL,-9007199254740993}'::int8[]")).toEqual([1n, null, -9007199254740993n]);
  expect(await value(database.owner, "'\\x00ff'::bytea")).toEqual(Buffer.from([0, 255]));
});

test("a slow statement and a lock that stays taken end with their reasons", async () => {
  const pool = open({ statementTimeoutMs: 50, lockTimeoutMs: 20 });
  const slow = await sql`SELECT pg_sleep(5)`.execute(pool.db).catch(toError);
  expect(slow).toMatchObject({ reason: "DATABASE_UNAVAILABLE", message: expect.stringContaining("in time") });
  const held = await database.owner.db.startTransaction().execute();
  await sql`LOCK TABLE public.notes`.execute(held);
  expect(await sql`SELECT FROM public.notes`.execute(pool.db).catch(toError)).toMatchObject({ reason: "CONFLICT" });
  await held.rollback().execute();
});

test("serialization failures and deadlocks are conflicts", async () => {
  await sql`INSERT INTO public.notes VALUES (1), (2)`.execute(database.owner.db);
  const lock = (db: DatabasePool["db"], id: number) =>
    sql`SELECT FROM public.notes WHERE id = ${id} FOR UPDATE`.execute(db);
  const [a, b] = await Promise.all([
    database.owner.db.startTransaction().execute(),
    database.owner.db.startTransaction().execute(),
  ]);
  // Whoever waits looks for a circle at once, not after a second.
  for (const tx of [a, b]) await sql`SET LOCAL deadlock_timeout = 10`.execute(tx);
  await lock(a, 1);
  await lock(b, 2);
  const outcomes = await Promise.allSettled([lock(a, 2), lock(b, 1)]);
  const [lost] = outcomes.filter(({ status }) => status === "rejected") as PromiseRejectedResult[];
  expect(lost?.reason).toMatchObject({ code: "40P01" });
  expect(toError(lost?.reason).reason).toBe("CONFLICT");
  await Promise.all([a.rollback().execute(), b.rollback().execute()]);
  const error = new DatabaseError("could not serialize", 1, "error");
  error.code = "40001";
  error.severity = "ERROR";
  expect(toError(error).reason).toBe("CONFLICT");
});

test("a refusal of the schema keeps its reason, message and metadata; an unknown one tells nothing", async () => {
  const raise = (using: string) =>
    sql.raw(`DO $$ BEGIN RAISE EXCEPTION 'alice made it' USING ${using}; END $$`).execute(database.owner.db);
  const detail = `DETAIL = '{"digest":"ab","count":3}'`;
  expect(await raise(`ERRCODE = 'PM001', CONSTRAINT = 'SELF_APPROVAL', ${detail}`).catch(toError)).toMatchObject({
    reason: "SELF_APPROVAL",
    message: "alice made it",
    metadata: { digest: "ab", count: "3" },
  });
  for (const using of ["ERRCODE = 'PM001', CONSTRAINT = 'constructor'", "ERRCODE = 'PM001'", "ERRCODE = 'P0001'"]) {
    expect(await raise(using).catch(toError), using).toMatchObject({ reason: "INTERNAL" });
  }
});

test("text that PostgreSQL cannot hold is the request's fault", async () => {
  for (const statement of [sql`SELECT ${"a\0b"}::text`, sql`SELECT ${'{"a":"\\u0000"}'}::jsonb ->> 'a'`]) {
    expect(await statement.execute(database.owner.db).catch(toError)).toMatchObject({ reason: "INVALID_ARGUMENT" });
  }
});

test("a constraint named after a reason refuses for it; other violations are defects", async () => {
  await sql`CREATE TABLE public.reviews (a integer, b integer, CONSTRAINT "SELF_REVIEW" CHECK (a <> b))`.execute(
    database.owner.db,
  );
  const review = await sql`INSERT INTO public.reviews VALUES (7, 7)`.execute(database.owner.db).catch(toError);
  expect(review).toMatchObject({ reason: "SELF_REVIEW", message: expect.not.stringContaining("7") });
  for (const statement of [
    sql`INSERT INTO public.notes VALUES (1)`,
    sql`INSERT INTO public.notes VALUES (9, 8)`,
    sql`INSERT INTO public.notes VALUES (NULL)`,
  ]) {
    expect(await statement.execute(database.owner.db).catch(toError)).toMatchObject({ reason: "INTERNAL" });
  }
});

test("a session that the server ends within a transaction fails that transaction and nothing else", async () => {
  const pool = open({ maxConnections: 1 });
  const failed = await pool.db
    .transaction()
    .execute(async (db) => {
      const { rows } = await sql<{ pid: number }>`SELECT pg_backend_pid() AS pid`.execute(db);
      await sql`SELECT pg_terminate_backend(${rows[0]?.pid}, 5000)`.execute(database.owner.db);
      await sql`SELECT 1`.execute(db);
    })
    .catch(toError);
  expect(failed).toMatchObject({ reason: "DATABASE_UNAVAILABLE" });
  expect(await value(pool, "1")).toBe(1);
  expect(pool.metrics).toMatchObject({ opened: 2, open: 1, waiting: 0 });
});

test("an idle session that the server ends is counted and replaced", async () => {
  let told: Error | undefined;
  const pool = open({ onConnectionLost: (error) => (told = error) });
  const pid = await value(pool, "pg_backend_pid()");
  await sql`SELECT pg_terminate_backend(${pid}, 5000)`.execute(database.owner.db);
  await eventually(() => pool.metrics.lost).toBe(1);
  expect(told).toBeInstanceOf(Error);
  expect(await value(pool, "1")).toBe(1);
});

test("the error of a failed transaction is the one that failed it, not that of its rollback", async () => {
  const { url, cut } = await openProxy();
  const pool = open({ url });
  const why = new Error("why");
  const failed = pool.db.transaction().execute(async () => {
    cut();
    throw why;
  });
  await expect(failed).rejects.toBe(why);
});

test("a connection that breaks during COMMIT leaves the outcome open, and says so", async () => {
  const { url, cutAtCommit } = await openProxy();
  const pool = open({ url });
  await value(pool, "1");
  for (const arrives of [true, false]) {
    const id = arrives ? 101 : 102;
    cutAtCommit(arrives);
    const lost = await pool.db
      .transaction()
      .execute((db) => sql`INSERT INTO public.notes VALUES (${id})`.execute(db))
      .catch((error: unknown) => error);
    expect(lost).toBeInstanceOf(CommitUnknownError);
    expect(toError(lost)).toMatchObject({ reason: "COMMIT_UNKNOWN", retryDelayMs: expect.any(Number) });
    // It is open indeed: the same error for a commit that took place and one that did not.
    await eventually(() => value(database.owner, `(SELECT count(*) FROM public.notes WHERE id = ${id})`)).toBe(
      arrives ? 1n : 0n,
    );
  }
});

test("a commit that the server refuses is a plain failure, and gives its connection back", async () => {
  await sql`CREATE TABLE public.late (id integer UNIQUE DEFERRABLE INITIALLY DEFERRED)`.execute(database.owner.db);
  const pool = open({ maxConnections: 1, acquireTimeoutMs: 500 });
  for (let i = 0; i < 3; i++) {
    const refused = pool.db.transaction().execute((db) => sql`INSERT INTO public.late VALUES (1), (1)`.execute(db));
    await expect(refused).rejects.toMatchObject({ code: "23505" });
  }
  expect(pool.metrics).toMatchObject({ opened: 1, open: 1, idle: 1 });
});

test.each([
  ["53100", "ERROR", "DATABASE_UNAVAILABLE"],
  ["53200", "ERROR", "DATABASE_UNAVAILABLE"],
  ["53300", "FATAL", "DATABASE_UNAVAILABLE"],
  ["57P01", "FATAL", "DATABASE_UNAVAILABLE"],
  ["57P03", "FATAL", "DATABASE_UNAVAILABLE"],
  ["58030", "ERROR", "DATABASE_UNAVAILABLE"],
  ["25006", "ERROR", "DATABASE_UNAVAILABLE"],
  ["55P03", "ERROR", "CONFLICT"],
  ["42501", "ERROR", "INTERNAL"],
  ["42P01", "ERROR", "INTERNAL"],
  ["28P01", "FATAL", "DATABASE_UNAVAILABLE"],
])("SQLSTATE %s with %s is %s for callers", (code, severity, reason) => {
  const error = new DatabaseError("words of the server", 1, "error");
  Object.assign(error, { code, severity });
  expect(toError(error)).toMatchObject({ reason, message: expect.not.stringContaining("words") });
});

test("a connection that falls silent is given up in bounded time, and not used again", async () => {
  const { url, silence, speak } = await openProxy();
  const pool = open({ url, statementTimeoutMs: 1, maxConnections: 1 });
  await value(pool, "1");
  // The server's own bound is no help here; this side waits 2 seconds longer than it.
  silence();
  const began = performance.now();
  expect(await sql`SELECT 1`.execute(pool.db).catch(toError)).toMatchObject({ reason: "DATABASE_UNAVAILABLE" });
  expect(performance.now() - began).toBeLessThan(8_000);
  speak();
  expect(pool.metrics.open).toBe(0);
  expect(await value(pool, "1")).toBe(1);
});

test("who waits too long for a connection is told that the database is not available", async () => {
  const pool = open({ maxConnections: 1, acquireTimeoutMs: 500 });
  const held = await pool.db.startTransaction().execute();
  const refused = sql`SELECT 1`.execute(pool.db).catch(toError);
  expect(pool.metrics).toMatchObject({ open: 1, idle: 0, waiting: 1 });
  expect(await refused).toMatchObject({ reason: "DATABASE_UNAVAILABLE" });
  await held.rollback().execute();
});

test("a pool closes although a connection is not given back", async () => {
  const pool = open({ maxConnections: 2, applicationName: "left-over" });
  await value(pool, "1");
  await pool.pool.connect();
  await pool.close(20);
  const sessions = sql`SELECT FROM pg_stat_activity WHERE application_name = 'left-over'`;
  await eventually(async () => (await sessions.execute(database.owner.db)).rows).toEqual([]);
});

test.each([
  ["nobody listens", () => "postgresql://u:p@127.0.0.1:1/d"],
  ["the socket is missing", () => "postgresql://u:p@localhost/d?host=/no/such/folder"],
  ["the host is unknown", () => "postgresql://u:p@host.invalid/d"],
])("where %s the database is not available", async (_, url) => {
  const pool = open({ url: url() });
  expect(await sql`SELECT 1`.execute(pool.db).catch(toError)).toMatchObject({ reason: "DATABASE_UNAVAILABLE" });
});

test("a server that does not speak TLS is refused where TLS is wanted", async () => {
  const { port } = await openProxy(true);
  const pool = open({ url: `postgresql://postgres:x@localhost:${port}/postgres?sslmode=verify-full` });
  await expect(sql`SELECT 1`.execute(pool.db)).rejects.toThrow(/does not support SSL/);
});

test("health follows the database, and a standby does not count as ready", async () => {
  const { url, cut, refuseAll } = await openProxy();
  const changes: boolean[] = [];
  const health = watchDatabase(open({ url }).db, { intervalMs: 10, onChange: (ready) => changes.push(ready) });
  opened.push(health);
  await eventually(() => health.ready).toBe(true);
  refuseAll(true);
  cut();
  await eventually(() => health.ready).toBe(false);
  refuseAll(false);
  await eventually(() => health.ready).toBe(true);
  expect(changes).toEqual([true, false, true]);
  await expect(database.owner.db.transaction().setAccessMode("read only").execute(assertWritable)).rejects.toThrow(
    "takes no writes",
  );
});

interface Proxy {
  readonly url: string;
  readonly port: number | undefined;
  /** Break what is connected now. */
  cut(): void;
  /** Break the connection at the next COMMIT: after the server has carried it out, or without passing it on. */
  cutAtCommit(arrives: boolean): void;
  silence(): void;
  speak(): void;
  refuseAll(refuse: boolean): void;
}

/** Something between pool and server that breaks. On a Unix socket, or on TCP. */
async function openProxy(tcp = false): Promise<Proxy> {
  const target = join(new URL(database.ownerUrl).searchParams.get("host") ?? "", SOCKET);
  const folder = mkdtempSync(join(tmpdir(), "persona-proxy-"));
  const pairs = new Set<[Socket, Socket]>();
  let commit: "pass" | "carry-out" | "swallow" = "pass";
  let silent = false;
  let refuse = false;
  const server: Server = createServer((near) => {
    const far = dial(target);
    const pair: [Socket, Socket] = [near, far];
    pairs.add(pair);
    const end = () => {
      pairs.delete(pair);
      for (const socket of pair) socket.destroy();
    };
    for (const socket of pair) socket.on("error", end).on("close", end);
    if (refuse) end();
    let cutNext = false;
    near.on("data", (bytes) => {
      if (silent) return;
      if (commit !== "pass" && bytes.includes("commit\0")) {
        cutNext = commit === "carry-out";
        if (commit === "swallow") end();
        commit = "pass";
      }
      far.write(bytes);
    });
    far.on("data", (bytes) => {
      if (cutNext) end();
      else if (!silent) near.write(bytes);
    });
  });
  await new Promise<void>((resolve) => {
    if (tcp) server.listen(0, "127.0.0.1", resolve);
    else server.listen(join(folder, SOCKET), resolve);
  });
  opened.push({
    close() {
      for (const pair of pairs) for (const socket of pair) socket.destroy();
      server.close();
      if (existsSync(folder)) rmSync(folder, { recursive: true });
    },
  });
  const url = new URL(database.ownerUrl);
  url.searchParams.set("host", folder);
  const address = server.address();
  return {
    url: url.href,
    port: typeof address === "object" ? address?.port : undefined,
    cut() {
      for (const [near, far] of pairs) {
        near.destroy();
        far.destroy();
      }
    },
    cutAtCommit(arrives) {
      commit = arrives ? "carry-out" : "swallow";
    },
    silence() {
      silent = true;
    },
    speak() {
      silent = false;
    },
    refuseAll(it) {
      refuse = it;
    },
  };
}

const SOCKET = ".s.PGSQL.5432";
