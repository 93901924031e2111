import { create } from "@bufbuild/protobuf";
import { CreateVectorRequestSchema, CreateVectorResponseSchema } from "@persona-mesh/protocol/registry";
import type { CallContext } from "@persona-mesh/service";
import { sql } from "kysely";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { addTenants } from "../testing/governed-rows.ts";
import { openTestDatabase, type TestDatabase } from "../testing/test-database.ts";
import { connectDatabase, type DatabasePool } from "./connect.ts";
import type { Mutation } from "./mutation.ts";
import { Transactor } from "./transaction.ts";

/** Over a single connection: one that is not given back is missed at once. */
let database: TestDatabase;
let pool: DatabasePool;
let transactor: Transactor;
let count = 0;

beforeAll(async () => {
  database = await openTestDatabase();
  await addTenants(database.service, "acme");
});
beforeEach(async () => {
  await pool?.close();
  pool = connectDatabase({ url: database.url, role: "persona_service", maxConnections: 1, acquireTimeoutMs: 1_000 });
  transactor = new Transactor(pool.db);
});
afterAll(async () => {
  await pool.close();
  await database.close();
});

/** What the log was told, oldest first. */
const warnings: string[] = [];

const context = {
  log: { warn: (_: object, message: string) => warnings.push(message) },
  method: "/persona.registry.v1.VectorService/CreateVector",
  requestId: "call",
  caller: { subject: "alice", tenant: "acme", roles: new Set(["admin"]) },
} as unknown as CallContext;

function mutate(
  body: (mutation: Mutation) => Promise<void>,
  request: { requestId?: string; validateOnly?: boolean } = {},
) {
  const scope = {
    context,
    tenant: "acme",
    resource: "tenants/acme",
    request: create(CreateVectorRequestSchema, { parent: "tenants/acme", vectorId: "calm", ...request }),
    requestSchema: CreateVectorRequestSchema,
    responseSchema: CreateVectorResponseSchema,
  };
  return transactor.mutate(scope, async (mutation) => {
    await body(mutation);
    return { vector: { name: `made ${++count}` } };
  });
}

const describeVector = (mutation: Mutation) =>
  mutation.db.updateTable("vectors").set({ description: "changed" }).execute();

async function audited(mutation: Mutation): Promise<void> {
  await describeVector(mutation);
  mutation.audit({ action: "Test", resource: "tenants/acme/vectors/cheerful" });
}

test("a change that the database refuses at the commit leaves the connection for the next", async () => {
  for (let i = 0; i < 3; i++) {
    await expect(mutate(async (mutation) => void (await describeVector(mutation)))).rejects.toMatchObject({
      constraint: "AUDIT_MISSING",
    });
  }
  await expect(mutate(audited)).resolves.toMatchObject({ vector: { name: expect.stringContaining("made") } });
  expect(pool.metrics).toMatchObject({ open: 1, idle: 1, opened: 1 });
});

test("a body that fails, a trial and a repeated request leave it too", async () => {
  await expect(mutate(() => Promise.reject(new Error("no")))).rejects.toThrow("no");
  await mutate(audited, { validateOnly: true });
  const first = await mutate(audited, { requestId: "r1" });
  expect(await mutate(audited, { requestId: "r1" })).toEqual(first);
  await transactor.read(context, "acme", "tenants/acme", (db) => db.selectFrom("vectors").selectAll().execute());
  expect(pool.metrics).toMatchObject({ open: 1, idle: 1, opened: 1 });
});

test("a trial is judged as the change would be at its commit", async () => {
  const unaudited = mutate(async (mutation) => void (await describeVector(mutation)), { validateOnly: true });
  await expect(unaudited).rejects.toMatchObject({ constraint: "AUDIT_MISSING" });
});

test("what is announced is said once for a change, never for a trial or a refusal", async () => {
  const announced = async (mutation: Mutation) => {
    mutation.announce({ use: "1" }, "break-glass");
    await audited(mutation);
  };
  await mutate(announced, { validateOnly: true });
  await expect(
    mutate(async (mutation) => {
      await announced(mutation);
      throw new Error("the gate is closed");
    }),
  ).rejects.toThrow("the gate is closed");
  expect(warnings).toEqual([]);
  await mutate(announced, { requestId: "r2" });
  await mutate(announced, { requestId: "r2" });
  expect(warnings).toEqual(["break-glass"]);
});

test("a connection that the server ends is replaced, and the change is not made", async () => {
  const broken = mutate(async (mutation) => {
    await audited(mutation);
    const { rows } = await sql<{ pid: number }>`SELECT pg_backend_pid() AS pid`.execute(mutation.db);
    await sql`SELECT pg_terminate_backend(${rows[0]?.pid}, 5000)`.execute(database.owner.db);
  });
  await expect(broken).rejects.toThrow();
  await mutate(audited);
  expect(pool.metrics).toMatchObject({ open: 1, idle: 1, opened: 2 });
});

test("a change of the schema while calls are made costs none of them", async () => {
  const read = () =>
    transactor.read(context, "acme", "tenants/acme", (db) => db.selectFrom("vectors").selectAll().execute());
  const [before] = await read();
  await sql`ALTER TABLE registry.vectors ADD COLUMN colour text DEFAULT 'red'`.execute(database.owner.db);
  try {
    expect(await read()).toEqual([{ ...before, colour: "red" }]);
  } finally {
    await sql`ALTER TABLE registry.vectors DROP COLUMN colour`.execute(database.owner.db);
  }
});

test("a reader cannot write, not even by mistake", async () => {
  const written = transactor.read(context, "acme", "tenants/acme", (db) =>
    db.updateTable("vectors").set({ description: "x" }).execute(),
  );
  await expect(written).rejects.toMatchObject({ code: "25006" });
});
