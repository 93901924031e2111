import { type Kysely, sql } from "kysely";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { addTenants, auditEntry } from "../testing/governed-rows.ts";
import { openTestDatabase, type TestDatabase } from "../testing/test-database.ts";
import { connectDatabase, type DatabasePool } from "./connect.ts";
import { CommitUnknownError, sendAhead } from "./registry-dialect.ts";
import type { Database } from "./schema.ts";
import { setTenant } from "./tx.ts";

/** Over a single connection: one that is not given back is missed at once. */
let database: TestDatabase;
let pool: DatabasePool;

beforeAll(async () => {
  database = await openTestDatabase();
  await addTenants(database.service, "acme");
});
beforeEach(async () => {
  await pool?.close();
  pool = connectDatabase({ url: database.url, role: "persona_service", maxConnections: 1, acquireTimeoutMs: 1_000 });
});
afterAll(async () => {
  await pool.close();
  await database.close();
});

const vector = (db: Kysely<Database>, name: string) =>
  db.insertInto("vectors").values({ tenant: "acme", vector: name }).compile();

async function begun() {
  const tx = await pool.db.startTransaction().execute();
  await setTenant(tx, "acme");
  return tx;
}

async function vectors(): Promise<string[]> {
  const tx = await begun();
  const rows = await tx.selectFrom("vectors").select("vector").orderBy("vector").execute();
  await tx.rollback().execute();
  return rows.map((row) => row.vector);
}

test("statements sent ahead are worked off in order, and the commit answers for them", async () => {
  const tx = await begun();
  await sendAhead(tx, vector(tx, "calm"));
  await sendAhead(tx, auditEntry("acme").compile(tx));
  await tx.commit().execute();
  expect(await vectors()).toEqual(["calm", "cheerful"]);
});

test("a commit behind a statement that failed takes no effect, and has its error", async () => {
  const tx = await begun();
  await sendAhead(tx, auditEntry("acme").compile(tx));
  await sendAhead(tx, vector(tx, "warm"));
  await sendAhead(tx, vector(tx, "warm"));
  await expect(tx.commit().execute()).rejects.toMatchObject({ code: "23505" });
  await tx.rollback().execute();
  expect(await vectors()).toEqual(["calm", "cheerful"]);
  expect(pool.metrics).toMatchObject({ idle: 1, opened: 1, lost: 0 });
});

test("any other statement behind it fails too, and undoing all of it leaves the connection for the next", async () => {
  const tx = await begun();
  await sendAhead(tx, vector(tx, "Not a name"));
  await expect(tx.selectFrom("vectors").selectAll().execute()).rejects.toMatchObject({ code: "23514" });
  await tx.rollback().execute();
  const undone = await begun();
  await sendAhead(undone, vector(undone, "Not a name"));
  await undone.rollback().execute();
  expect(await vectors()).toEqual(["calm", "cheerful"]);
  expect(pool.metrics).toMatchObject({ idle: 1, opened: 1 });
});

test("a transaction that the server refuses to begin fails at its first statement", async () => {
  const client = await pool.pool.connect();
  await client.query("BEGIN");
  await client.query("SELECT 1 / 0").catch(() => {});
  // Given back in the middle of a failed transaction, where nothing can begin.
  client.release();
  const refused = await pool.db.startTransaction().execute();
  await expect(sql`SELECT 1`.execute(refused)).rejects.toMatchObject({ code: "25P02" });
  await refused.rollback().execute();
});

test("a file of several statements runs whole, though it begins as one that is planned once", async () => {
  await sql.raw("SELECT set_config('persona.one', '1', false); SET persona.two = '2'").execute(pool.db);
  const { rows } =
    await sql`SELECT current_setting('persona.one') AS one, current_setting('persona.two') AS two`.execute(pool.db);
  expect(rows).toEqual([{ one: "1", two: "2" }]);
});

test("a plan that a change of the schema has made void is made anew", async () => {
  const models = () => pool.db.selectFrom("models").selectAll().executeTakeFirstOrThrow();
  const before = Object.keys(await models());
  await sql`ALTER TABLE registry.models ADD COLUMN colour text`.execute(database.owner.db);
  try {
    await expect(models()).rejects.toMatchObject({ code: "0A000" });
    expect(Object.keys(await models())).toEqual([...before, "colour"]);
  } finally {
    await sql`ALTER TABLE registry.models DROP COLUMN colour`.execute(database.owner.db);
  }
});

test("a commit on a connection that is known to be gone was never sent: nothing is in doubt", async () => {
  const tx = await begun();
  const { rows } = await sql<{ pid: number }>`SELECT pg_backend_pid() AS pid`.execute(tx);
  await sql`SELECT pg_terminate_backend(${rows[0]?.pid}, 5000)`.execute(database.owner.db);
  await expect.poll(() => sql`SELECT 1`.execute(tx).catch(({ message }) => message)).toMatch(/not queryable/);
  const refused = await tx
    .commit()
    .execute()
    .catch((error: unknown) => error);
  expect(refused).toBeInstanceOf(Error);
  expect(refused).not.toBeInstanceOf(CommitUnknownError);
  await tx.rollback().execute();
});
