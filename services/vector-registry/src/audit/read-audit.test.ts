import { sql } from "kysely";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { connectDatabase } from "../database/connect.ts";
import { BatchedReadAudit } from "./batched-read-audit.ts";
import type { ReadEntry } from "./read-audit.ts";
import { openTestAudit, type TestAudit } from "./testing/test-audit.ts";

let audit: TestAudit;
let reads: BatchedReadAudit;

beforeAll(async () => {
  audit = await openTestAudit();
});

afterAll(() => audit.close());

beforeEach(() => {
  reads = new BatchedReadAudit(audit.database.service.db, audit.registry.log);
});

afterEach(() => reads[Symbol.asyncDispose]());

let count = 0;

function readOf(tenant: string, more: Partial<ReadEntry> = {}): ReadEntry {
  const resource = `tenants/${tenant}/vectors/cheerful/versions/${"a".repeat(64)}`;
  return {
    tenant,
    actor: "worker",
    resource,
    digest: "a".repeat(64),
    callId: `call-${++count}`,
    purpose: "test",
    ...more,
  };
}

/** Call ids of all reads of a tenant, by entry. */
async function written(tenant: string): Promise<string[][]> {
  const rows = await audit.database.owner.db
    .selectFrom("audit")
    .select("payload")
    .where("tenant", "=", tenant)
    .where("chain", "=", "READS")
    .orderBy("sequence")
    .execute();
  return rows.map(({ payload }) =>
    (JSON.parse(payload) as { reads: { callId: string }[] }).reads.map((it) => it.callId),
  );
}

/** A transaction of somebody else's that holds a tenant's chain of reads. */
async function whileChainIsHeld(tenant: string, work: () => Promise<void>): Promise<void> {
  await reads.record([readOf(tenant)]);
  await audit.database.owner.db.transaction().execute(async (db) => {
    await sql`SELECT FROM registry.audit_heads WHERE tenant = ${tenant} AND chain = 'READS' FOR UPDATE`.execute(db);
    await work();
  });
}

test("a read is committed when its promise resolves, with who, what, when and why", async () => {
  const read = readOf("acme", { actor: "alice", purpose: "download" });
  await reads.record([read]);
  const row = await audit.database.owner.db
    .selectFrom("audit")
    .selectAll()
    .where("chain", "=", "READS")
    .executeTakeFirstOrThrow();
  const { tenant, ...rest } = read;
  expect(row.tenant).toBe(tenant);
  expect(JSON.parse(row.payload)).toEqual({
    action: "ReadContent",
    reads: [rest],
    time: expect.stringMatching(/^20.*Z$/),
  });
});

test("reads that come while one is written share an entry; other tenants do not wait", async () => {
  let burst: Promise<void>[] = [];
  const own = Array.from({ length: 300 }, () => readOf("acme"));
  await whileChainIsHeld("acme", async () => {
    const first = reads.record([readOf("acme", { callId: "first" })]);
    burst = [first, ...own.map((read) => reads.record([read]))];
    expect(reads.waiting).toBe(301);
    await reads.record([readOf("globex")]);
    expect(reads.waiting).toBe(301);
  });
  await Promise.all(burst);
  const entries = (await written("acme")).slice(-4);
  expect(entries.map((ids) => ids.length)).toEqual([1, 128, 128, 44]);
  expect(entries.flat().slice(1)).toEqual(own.map(({ callId }) => callId));
});

test("the end waits for what waits, and takes nothing more", async () => {
  let pending: Promise<void>[] = [];
  let ended: Promise<void> | undefined;
  const own = [readOf("acme"), readOf("acme")];
  await whileChainIsHeld("acme", async () => {
    pending = own.map((read) => reads.record([read]));
    ended = reads[Symbol.asyncDispose]();
    await expect(reads.record([readOf("acme")])).rejects.toMatchObject({ reason: "AUDIT_UNAVAILABLE" });
  });
  await ended;
  expect((await written("acme")).flat()).toEqual(expect.arrayContaining(own.map(({ callId }) => callId)));
  await Promise.all(pending);
});

test("more than may wait are refused at once", async () => {
  const bounded = new BatchedReadAudit(audit.database.service.db, audit.registry.log, { maxWaiting: 2 });
  let pending: Promise<void>[] = [];
  await whileChainIsHeld("acme", async () => {
    pending = [bounded.record([readOf("acme")]), bounded.record([readOf("acme")])];
    await expect(bounded.record([readOf("acme")])).rejects.toThrow("2 reads wait already");
  });
  await Promise.all(pending);
  await bounded.record([readOf("acme")]);
});

test("what cannot be written is refused to everybody who waits, and works again when the database does", async () => {
  const { owner } = audit.database;
  const before = (await written("globex")).length;
  await sql`REVOKE INSERT ON registry.audit FROM persona_service`.execute(owner.db);
  const refused = await Promise.allSettled(Array.from({ length: 20 }, () => reads.record([readOf("globex")])));
  await sql`GRANT INSERT ON registry.audit TO persona_service`.execute(owner.db);
  expect(refused).toEqual(
    refused.map(() => ({ status: "rejected", reason: expect.objectContaining({ reason: "AUDIT_UNAVAILABLE" }) })),
  );
  expect(await written("globex")).toHaveLength(before);
  await reads.record([readOf("globex")]);
  expect(await written("globex")).toHaveLength(before + 1);
});

test("a database that is away refuses reads", async () => {
  const url = new URL(audit.database.url);
  const away = connectDatabase({
    url: `postgresql://${url.username}:${url.password}@127.0.0.1:1${url.pathname}`,
    role: "persona_service",
  });
  await using offline = new BatchedReadAudit(away.db, audit.registry.log);
  await expect(offline.record([readOf("acme")])).rejects.toMatchObject({ reason: "AUDIT_UNAVAILABLE" });
  await away.close();
});

test("a read that the audit cannot hold is refused alone", async () => {
  const odd = [
    readOf("acme", { purpose: "\0" }),
    readOf("acme", { actor: "\ud800" }),
    readOf("acme", { callId: "x".repeat(600) }),
  ];
  const good = reads.record([readOf("acme")]);
  for (const read of odd) await expect(reads.record([read])).rejects.toMatchObject({ reason: "AUDIT_UNAVAILABLE" });
  await good;
});
