import { sql } from "kysely";
import { afterAll, beforeAll, expect, test } from "vitest";
import { openTestDatabase, type TestDatabase } from "../testing/test-database.ts";
import { sweep } from "./sweep.ts";

let database: TestDatabase;

beforeAll(async () => {
  database = await openTestDatabase();
});
afterAll(() => database.close());

/** As the superuser, whom nothing stops. */
const damage = (text: string) => sql.raw(text).execute(database.owner.db);

test("answers of more than a day go, for every tenant; younger ones nobody can delete", async () => {
  await damage(`INSERT INTO registry.requests (tenant, subject, request_id, method, request_digest, response, created_at)
    SELECT tenant, 'ada', age, '/method', repeat('a', 64), '', now() - age::interval
    FROM unnest(ARRAY['acme', 'rival']) tenant, unnest(ARRAY['1 minute', '23 hours', '25 hours', '9 days']) age`);
  expect(await sweep(database.watch.db)).toEqual({ answers: 4, workers: 0 });
  expect(await sweep(database.watch.db)).toEqual({ answers: 0, workers: 0 });
  await sql`DELETE FROM requests`.execute(database.watch.db);
  const { rows } = await sql`SELECT tenant, request_id FROM registry.requests ORDER BY 1, 2`.execute(database.owner.db);
  expect(rows).toEqual(
    ["acme", "rival"].flatMap((tenant) => [
      { tenant, request_id: "1 minute" },
      { tenant, request_id: "23 hours" },
    ]),
  );
});

test("workers that nobody heard of for a week go; one that only watches stays", async () => {
  await damage(`INSERT INTO registry.workers (worker, model_checksum, state, applied_revision, reported_at, connected_until)
    SELECT name, repeat('a', 64), 'READY', 1, now() - reported, now() + until
    FROM (VALUES
      ('reports', interval '6 days', NULL),
      ('gone', interval '8 days', NULL),
      ('cut off', interval '8 days', interval '-8 days'),
      ('watches', interval '8 days', interval '10 seconds'),
      ('watched yesterday', interval '8 days', interval '-1 day')) it (name, reported, until)`);
  expect(await sweep(database.watch.db)).toEqual({ answers: 0, workers: 2 });
  const { rows } = await sql<{ worker: string }>`SELECT worker FROM registry.workers ORDER BY 1`.execute(
    database.owner.db,
  );
  expect(rows.map(({ worker }) => worker)).toEqual(["reports", "watched yesterday", "watches"]);
});
