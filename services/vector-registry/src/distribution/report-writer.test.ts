import { afterAll, beforeAll, expect, test } from "vitest";
import { openTestDatabase, type TestDatabase } from "../testing/test-database.ts";
import { type Report, ReportWriter } from "./report-writer.ts";

let database: TestDatabase;

beforeAll(async () => {
  database = await openTestDatabase();
});
afterAll(() => database.close());

const report = (worker: string, revision: number, problems = "[]"): Report => ({
  worker,
  modelChecksum: "a".repeat(64),
  state: "READY",
  appliedRevision: BigInt(revision),
  problems,
});

/** What is written, with the number of the transaction that wrote it. */
async function written(): Promise<ReadonlyMap<string, { readonly revision: bigint; readonly xmin: string }>> {
  const { rows } = await database.owner.pool.query("SELECT worker, applied_revision, xmin::text FROM registry.workers");
  return new Map(rows.map((row) => [row.worker, { revision: row.applied_revision, xmin: row.xmin }]));
}

test("reports that come at once are written together, the newest of each worker", async () => {
  await using writer = new ReportWriter(database.watch.db);
  const workers = Array.from({ length: 150 }, (_, n) => `worker-${n}`);
  await Promise.all([
    writer.write(report("first", 1)),
    ...workers.map((worker) => writer.write(report(worker, 1))),
    ...workers.map((worker) => writer.write(report(worker, 2))),
  ]);
  const rows = await written();
  expect(workers.map((worker) => rows.get(worker)?.revision)).toEqual(workers.map(() => 2n));
  expect(new Set([...rows.values()].map(({ xmin }) => xmin)).size).toBeLessThanOrEqual(4);
});

test("a report that the database refuses is refused alone", async () => {
  await using writer = new ReportWriter(database.watch.db);
  const results = await Promise.allSettled([
    writer.write(report("before", 1)),
    writer.write(report("one", 3)),
    writer.write(report("bad", 3, "{}")),
    writer.write(report("two", 3)),
  ]);
  expect(results.map(({ status }) => status)).toEqual(["fulfilled", "fulfilled", "rejected", "fulfilled"]);
  const rows = await written();
  expect([rows.get("one")?.revision, rows.get("two")?.revision, rows.has("bad")]).toEqual([3n, 3n, false]);
});
