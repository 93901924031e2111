import { sql } from "kysely";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { Tx } from "../database/tx.ts";
import * as rows from "../testing/governed-rows.ts";
import { openTestDatabase, type TestDatabase } from "../testing/test-database.ts";
import { holdModel, isModelUsed } from "./model-use.ts";

let database: TestDatabase;

beforeAll(async () => {
  database = await openTestDatabase();
  await rows.addTenants(database.service, "acme");
});
afterAll(() => database.close());

async function begin(tenant: string): Promise<Tx> {
  const tx = await database.service.db.startTransaction().execute();
  await sql`SELECT set_config('persona.tenant', ${tenant}, true)`.execute(tx);
  return tx;
}

test("whether a model is used waits for the version that is being published", async () => {
  const publishing = await begin("acme");
  await holdModel(publishing, rows.MODEL_CHECKSUM);
  const deleting = await begin("platform");
  let answered = false;
  const used = isModelUsed(deleting, rows.MODEL_CHECKSUM).finally(() => {
    answered = true;
  });
  for (const statement of rows.publish("acme", 1)) await statement.execute(publishing);
  await rows.auditEntry("acme").execute(publishing);
  await expect
    .poll(async () => {
      const { rows: waiting } = await sql`SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted`.execute(
        database.owner.db,
      );
      return waiting.length;
    })
    .toBe(1);
  expect(answered).toBe(false);
  await publishing.commit().execute();
  expect(await used).toBe(true);
  await deleting.rollback().execute();
});
