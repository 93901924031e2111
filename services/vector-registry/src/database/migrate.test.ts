import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { sql } from "kysely";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { openTestDatabase, type TestDatabase } from "../testing/test-database.ts";
import { connectDatabase } from "./connect.ts";
import { databaseErrors } from "./error-mapping.ts";
import { assertMigrated, migrateDatabase } from "./migrate.ts";
import { openDatabase } from "./open-database.ts";
import { scramVerifier } from "./scram.ts";

let database: TestDatabase;
let folder: string;
let url: string;
let count = 0;

beforeAll(async () => {
  database = await openTestDatabase();
  folder = mkdtempSync(join(tmpdir(), "persona-migrations-"));
});
beforeEach(async () => {
  const name = `empty_${++count}`;
  await sql`CREATE DATABASE ${sql.id(name)}`.execute(database.owner.db);
  url = database.server.url(name);
  rmSync(folder, { recursive: true });
  folder = mkdtempSync(join(tmpdir(), "persona-migrations-"));
});
afterAll(async () => {
  rmSync(folder, { recursive: true });
  await database.close();
});

const migrate = () => migrateDatabase({ url, folder: pathToFileURL(`${folder}/`) });

function write(name: string, text: string): void {
  writeFileSync(join(folder, `${name}.sql`), text);
}

async function query(statement: string): Promise<unknown[]> {
  const pool = connectDatabase({ url, maxConnections: 1 });
  try {
    return (await sql.raw(statement).execute(pool.db)).rows;
  } finally {
    await pool.close();
  }
}

const refused = (message: RegExp) =>
  expect.objectContaining({ reason: "DATABASE_SCHEMA", message: expect.stringMatching(message) });

test("files are applied in order, once, and what comes later is applied later", async () => {
  write("0002-second", "INSERT INTO public.steps VALUES (2);");
  write("0001-first", "CREATE TABLE public.steps (n integer);\nINSERT INTO public.steps VALUES (1);");
  expect(await migrate()).toEqual(["0001-first", "0002-second"]);
  expect(await migrate()).toEqual([]);
  write("0003-third", "INSERT INTO public.steps VALUES (3);");
  expect(await migrate()).toEqual(["0003-third"]);
  expect(await query("SELECT n FROM public.steps")).toEqual([{ n: 1 }, { n: 2 }, { n: 3 }]);
});

test("a file that fails leaves the database as it was, and is named", async () => {
  write("0001-first", "CREATE TABLE public.steps (n integer);");
  write("0002-second", "CREATE TABLE public.more (n integer); SELECT 1 / 0;");
  await expect(migrate()).rejects.toMatchObject({
    message: "the migration 0002-second failed",
    cause: { code: "22012" },
  });
  expect(await query("SELECT to_regclass('public.steps') AS steps")).toEqual([{ steps: null }]);
  write("0002-second", "CREATE TABLE public.more (n integer);");
  expect(await migrate()).toEqual(["0001-first", "0002-second"]);
});

test("role and path that a file sets do not reach the next, nor the bookkeeping", async () => {
  write("0001-first", "SET LOCAL ROLE persona_owner; SET LOCAL search_path = pg_catalog;");
  write(
    "0002-second",
    "CREATE TABLE public.seen AS SELECT current_user AS who, current_setting('search_path') AS path;",
  );
  await migrate();
  expect(await query("SELECT * FROM public.seen")).toEqual([{ who: "postgres", path: "registry" }]);
});

test("a file that was changed after it was applied is refused, and so is one that is missing here", async () => {
  write("0001-first", "CREATE TABLE public.steps (n integer);");
  write("0002-second", "SELECT 1;");
  await migrate();
  write("0001-first", "CREATE TABLE public.steps (n integer); ");
  await expect(migrate()).rejects.toEqual(refused(/0001-first is not the one that was applied/));
  write("0001-first", "CREATE TABLE public.steps (n integer);");
  rmSync(join(folder, "0002-second.sql"));
  await expect(migrate()).rejects.toEqual(refused(/0002-second, which this version of the registry does not know/));
});

test("a file that comes before those that are applied is refused", async () => {
  write("0002-second", "SELECT 1;");
  await migrate();
  write("0001-late", "SELECT 1;");
  await expect(migrate()).rejects.toThrow(/0001-late/);
});

test("several that start at once apply each file once", async () => {
  write("0001-first", "SELECT pg_sleep(0.1); CREATE TABLE public.steps (n integer);");
  const applied = await Promise.all([migrate(), migrate(), migrate()]);
  expect(applied.flat()).toEqual(["0001-first"]);
});

test("a service without the right to migrate compares, under its role", async () => {
  write("0001-first", "SELECT 1;");
  const here = pathToFileURL(`${folder}/`);
  await expect(assertMigrated(database.service.db, here)).rejects.toEqual(refused(/0001-registry/));
  await expect(assertMigrated(database.service.db)).resolves.toBeUndefined();
  const pool = connectDatabase({ url });
  try {
    await expect(assertMigrated(pool.db, here)).rejects.toEqual(refused(/lacks 0001-first/));
    await migrate();
    await expect(assertMigrated(pool.db, here)).resolves.toBeUndefined();
    write("0002-second", "SELECT 1;");
    await expect(assertMigrated(pool.db, here)).rejects.toEqual(refused(/lacks 0002-second/));
  } finally {
    await pool.close();
  }
});

test("the schema is made by a login that is no superuser, as managed databases have it", async () => {
  const password = database.server.password("operator");
  await query(`CREATE ROLE operator LOGIN CREATEROLE PASSWORD '${scramVerifier(password)}'`);
  const name = `managed_${count}`;
  await query(`CREATE DATABASE ${name} OWNER operator`);
  // Roles of the cluster are there already, made by somebody else: they have to be given once.
  await query("GRANT persona_owner TO operator WITH ADMIN TRUE, INHERIT FALSE, SET TRUE");
  const migrationUrl = database.server.url(name, "operator");
  const opened = await openDatabase({ url: database.server.url(name, "persona_login"), migrationUrl, folder });
  try {
    expect(opened.migrated).toEqual(["0001-registry"]);
    expect(opened.embedded).toBeUndefined();
    const { rows } = await sql`SELECT current_user AS who FROM tenants RIGHT JOIN (SELECT) one ON true`.execute(
      opened.service.db,
    );
    expect(rows).toEqual([{ who: "persona_service" }]);
  } finally {
    await opened.close();
  }
});

test("a login that the database refuses is the operator's to mend, and named without its password", async () => {
  const good = new URL(database.url);
  const wrong = (change: (target: URL) => void) => {
    const target = new URL(good);
    change(target);
    return openDatabase({ url: target.href, folder, startTimeoutMs: 100 });
  };
  const refusal = (text: RegExp) =>
    expect.objectContaining({ reason: "CONFIG_INVALID", message: expect.stringMatching(text) });
  await expect(wrong((target) => (target.password = "s3cret"))).rejects.toEqual(
    refusal(/password authentication failed/),
  );
  await expect(wrong((target) => (target.pathname = "/nowhere"))).rejects.toEqual(refusal(/"nowhere" does not exist/));
  await query(`CREATE ROLE bare_${count} LOGIN PASSWORD '${scramVerifier(database.server.password(`bare_${count}`))}'`);
  const bare = new URL(database.server.url(good.pathname.slice(1), `bare_${count}`));
  await expect(wrong((target) => (target.href = bare.href))).rejects.toEqual(refusal(/denied/));
  // One that is only away is waited for, and then told apart.
  const away = wrong((target) => target.searchParams.set("host", "/no/such/folder")).catch((error: unknown) => error);
  expect(databaseErrors(await away)).toMatchObject({ reason: "DATABASE_UNAVAILABLE" });
});

test("an empty folder becomes a database with its roles, and is found again", async () => {
  const own = mkdtempSync(join(tmpdir(), "persona-open-"));
  try {
    for (const migrated of [["0001-registry"], []]) {
      const opened = await openDatabase({ folder: own });
      expect(opened.migrated).toEqual(migrated);
      expect(opened.shown).toContain("persona at the socket");
      await opened.close();
    }
  } finally {
    rmSync(own, { recursive: true });
  }
});

test("a password's verifier is the one that PostgreSQL makes", () => {
  // The example of RFC 7677, with the salt and the iterations that it names.
  expect(scramVerifier("pencil", Buffer.from("W22ZaJ0SNY7soEsUEjb6gQ==", "base64"), 4096)).toBe(
    "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=",
  );
});
