import { appendFile, copyFile, readFile, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { decodeKeySet, decodeRootLine, generateAuditKey, readSigningKey, verifyExport } from "@persona-mesh/audit";
import { type RawBuilder, sql } from "kysely";
import { afterEach, beforeEach, expect, test } from "vitest";
import { actAs } from "../testing/governed-rows.ts";
import type { AuditRoots } from "./audit-roots.ts";
import { BatchedReadAudit } from "./batched-read-audit.ts";
import { type AuditTx, lockRoots } from "./root-store.ts";
import { openSigningKey, publicKeyFile } from "./signing-key.ts";
import { openTestAudit, type TestAudit } from "./testing/test-audit.ts";

let audit: TestAudit;

beforeEach(async () => {
  audit = await openTestAudit();
});

afterEach(() => audit.close());

const numbersIn = (lines: readonly string[]) => lines.map((line) => decodeRootLine(line)?.number);

/** End all connections of the service and the auditor, as a network that breaks. */
async function cutConnections(): Promise<void> {
  await sql`SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND usename = 'persona_login'`.execute(
    audit.database.owner.db,
  );
}

/** As the superuser, without triggers. */
async function asOwner(...statements: RawBuilder<unknown>[]): Promise<void> {
  await audit.database.owner.db.connection().execute(async (db) => {
    await sql`SET session_replication_role = replica`.execute(db);
    for (const statement of statements) await statement.execute(db);
    await sql`SET session_replication_role = DEFAULT`.execute(db);
  });
}

/** Whether somebody waits for a lock of a table. */
async function waitingFor(db: AuditTx, table: string): Promise<boolean> {
  const { rows } =
    await sql`SELECT FROM pg_locks WHERE relation = ${`registry.${table}`}::regclass AND NOT granted`.execute(db);
  return rows.length > 0;
}

test("a root is signed when a chain moved, and only then", async () => {
  await audit.roots.sign();
  await audit.roots.sign();
  expect(await audit.outside()).toHaveLength(1);
  await audit.write("globex");
  await audit.roots.sign();
  expect(numbersIn(await audit.outside())).toEqual([1n, 2n]);
  const { rows } = await sql`SELECT number, tenant, chain FROM registry.audit_root_heads ORDER BY number, leaf`.execute(
    audit.database.owner.db,
  );
  // Both chains of each tenant under the first root, the one that moved under the second.
  expect(rows).toHaveLength(7);
  expect(rows.at(-1)).toEqual({ number: 2n, tenant: "globex", chain: "CHANGES" });
});

test("many writers over several pools and two signers leave one unbroken chain, proven to its end", async () => {
  const own = join(audit.folder, "own.jsonl");
  const second = await audit.replica({ rootsFile: own });
  const pools = [audit.database.service, audit.database.connect("persona_service")];
  const readers = pools.map(({ db }) => new BatchedReadAudit(db, audit.registry.log));
  let done = false;
  const sign = async (roots: AuditRoots) => {
    while (!done) await roots.sign();
  };
  const signing = [sign(audit.roots), sign(second)];
  await Promise.all(
    Array.from({ length: 120 }, async (_, n) => {
      const tenant = n % 3 === 0 ? "globex" : "acme";
      await actAs(pools[n % 2] as (typeof pools)[0], tenant, []);
      await readers[n % 2]?.record([readOf("acme", `read ${n}`)]);
    }),
  );
  done = true;
  await Promise.all(signing);
  // Two keys sign: what is kept outside vouches for both.
  const all = await verifyExport(await audit.export("acme"), { trustedRoots: await audit.outside() });
  expect(all).toMatchObject({ ok: true, problems: [], warnings: [] });
  expect(all.chains.CHANGES).toEqual({ entries: 81n, proven: 81n, unsigned: 0n });
  await second.sign();
  expect(await audit.outside(own)).toEqual(await audit.outside());
  const { rows } = await sql<{
    read: string;
  }>`SELECT jsonb_array_elements(payload::jsonb -> 'reads') ->> 'callId' AS read
    FROM registry.audit WHERE chain = 'READS'`.execute(audit.database.owner.db);
  expect(new Set(rows.map(({ read }) => read)).size).toBe(120);
  expect(rows).toHaveLength(120);
});

test("connections that break in the middle lose nothing that was acknowledged, and nothing is signed twice", async () => {
  let acknowledged = 1;
  const write = async () => {
    for (let n = 0; n < 25; n++) {
      try {
        await audit.write("acme");
        acknowledged++;
      } catch {
        // Not acknowledged: it may be there or not.
      }
    }
  };
  const sign = async () => {
    for (let n = 0; n < 40; n++) await audit.roots.sign().catch(() => {});
  };
  const cut = async () => {
    for (let n = 0; n < 6; n++) await cutConnections();
  };
  await Promise.all([write(), write(), sign(), cut()]);
  // And once surely in the middle: the root is about to be signed.
  await audit.database.owner.db.transaction().execute(async (db) => {
    await sql`LOCK TABLE registry.audit_roots IN EXCLUSIVE MODE`.execute(db);
    await audit.write("acme");
    acknowledged++;
    const cutOff = audit.roots.sign();
    await expect.poll(() => waitingFor(db, "audit_roots")).toBe(true);
    await cutConnections();
    await expect(cutOff).rejects.toThrow();
  });
  expect(audit.roots.state.kind).toBe("failing");
  await audit.roots.sign();
  expect(audit.roots.state).toEqual({ kind: "signing" });
  const report = await audit.verify();
  expect(report).toMatchObject({ ok: true, warnings: [] });
  expect(report.chains.CHANGES.entries).toBeGreaterThanOrEqual(BigInt(acknowledged));
});

test("a signer begins by itself and signs the tail when it ends", async () => {
  const rootsFile = join(audit.folder, "timed.jsonl");
  const timed = await audit.replica({ rootsFile, intervalMs: 5 });
  await expect.poll(async () => (await audit.outside(rootsFile)).length).toBe(1);
  await timed[Symbol.asyncDispose]();
  const last = await audit.replica({ rootsFile });
  await audit.write("acme");
  await last[Symbol.asyncDispose]();
  expect(await audit.outside(rootsFile)).toHaveLength(2);
  expect(last.state).toEqual({ kind: "closed" });
});

test("two signers that share a file leave each root in it once, in order", async () => {
  const rootsFile = join(audit.folder, "shared.jsonl");
  const key = readSigningKey(generateAuditKey());
  const signers = [await audit.replica({ rootsFile, key }), await audit.replica({ rootsFile, key })];
  for (let n = 0; n < 10; n++) {
    await audit.write("acme");
    await Promise.all(signers.map((signer) => signer.sign()));
  }
  const numbers = numbersIn(await audit.outside(rootsFile));
  expect(numbers).toEqual(numbers.map((_, at) => BigInt(at + 1)));
  expect(numbers.length).toBeGreaterThanOrEqual(10);
});

test("a line that a crash cut off is written again", async () => {
  await audit.roots.sign();
  await audit.write("acme");
  await audit.roots.sign();
  const file = join(audit.folder, "roots.jsonl");
  const whole = await readFile(file, "utf8");
  // The last also as a file system may leave it that lost power: long, and empty.
  for (const left of [whole.slice(0, -40), "", "{", whole.slice(0, -40) + "\0".repeat(100_000)]) {
    await writeFile(file, left);
    await audit.replica({ rootsFile: file });
    expect(await readFile(file, "utf8")).toBe(whole);
  }
});

test("a file whose end is no root, or roots that are not in the table, stop the start", async () => {
  await audit.roots.sign();
  const damaged = join(audit.folder, "damaged.jsonl");
  await copyFile(join(audit.folder, "roots.jsonl"), damaged);
  await appendFile(damaged, "garbage\n");
  await expect(audit.replica({ rootsFile: damaged })).rejects.toMatchObject({ reason: "AUDIT_ROOTS_DIVERGED" });
  const changed = join(audit.folder, "changed.jsonl");
  await writeFile(
    changed,
    (await readFile(join(audit.folder, "roots.jsonl"), "utf8")).replace('Root\\":\\"', 'Root\\":\\"'),
  );
  await expect(audit.replica({ rootsFile: changed })).resolves.toBeDefined();
  const [line = ""] = await audit.outside();
  const digit = /merkleRoot\\":\\"(.)/.exec(line)?.[1];
  await writeFile(changed, `${line.replace(/(merkleRoot\\":\\")./, `$1${digit === "0" ? "1" : "0"}`)}\n`);
  await expect(audit.replica({ rootsFile: changed })).rejects.toThrow(/another one in the database/);
});

test("a database that was put back is refused at the start, unless the loss is accepted by its number", async () => {
  await audit.roots.sign();
  await audit.write("acme");
  await audit.roots.sign();
  const rootsFile = join(audit.folder, "roots.jsonl");
  await asOwner(
    sql`DELETE FROM registry.audit_root_heads WHERE number = 2`,
    sql`DELETE FROM registry.audit_roots WHERE number = 2`,
  );
  const refused = audit.replica({ rootsFile });
  await expect(refused).rejects.toMatchObject({
    reason: "AUDIT_ROOTS_DIVERGED",
    metadata: { outside: "2", database: "1" },
  });
  await expect(audit.replica({ rootsFile, acceptLostRoots: 1n })).rejects.toThrow(/root 2 .* is missing/);
  const accepted = await audit.replica({ rootsFile, acceptLostRoots: 2n });
  await accepted.sign();
  expect(numbersIn(await audit.outside())).toEqual([1n, 2n]);
  const { file } = audit.log.find(({ lost }) => lost === "2") as { file: string };
  expect(numbersIn(await audit.outside(file))).toEqual([1n, 2n]);
  expect(await audit.outside(file)).not.toEqual(await audit.outside());
});

test("a signer that has seen a loss says so until it is made good, also while others sign", async () => {
  const rootsFile = join(audit.folder, "watchful.jsonl");
  const timed = await audit.replica({ rootsFile, intervalMs: 1 });
  await expect.poll(() => timed.newest).toBe(1n);
  const [root] = await audit.database.owner.db.selectFrom("audit_roots").selectAll().execute();
  await asOwner(sql`DELETE FROM registry.audit_roots`);
  await expect.poll(() => timed.state.kind).toBe("diverged");
  await audit.database.auditor.db.transaction().execute(async (tx) => {
    await lockRoots(tx);
    await delay(30);
    expect(timed.state.kind).toBe("diverged");
  });
  expect(audit.log.filter(({ msg }) => msg === "the audit is not what was signed: nothing more is")).toHaveLength(1);
  await asOwner(sql`INSERT INTO registry.audit_roots (number, body, signature, key_id)
    VALUES (1, ${root?.body}, ${root?.signature}, ${root?.key_id})`);
  await expect.poll(() => timed.state.kind).toBe("signing");
});

test("heads that were signed and are gone or changed are not signed anew", async () => {
  await audit.roots.sign();
  await audit.write("acme");
  const late = await audit.replica();
  await asOwner(sql`UPDATE registry.audit_root_heads SET sequence = sequence + 1 WHERE leaf = 0`);
  await expect(late.sign()).rejects.toThrow(/heads under root 1 .* are not what was signed/);
  await asOwner(sql`DELETE FROM registry.audit_root_heads`);
  await expect(late.sign()).rejects.toThrow(/heads under root 1 .* are not what was signed/);
});

test("a fresh replica copies the roots of the others, and refuses what no published key has signed", async () => {
  await audit.roots.sign();
  const rootsFile = join(audit.folder, "fresh.jsonl");
  await audit.replica({ rootsFile });
  expect(await audit.outside(rootsFile)).toEqual(await audit.outside());
  await rm(rootsFile);
  await asOwner(sql`UPDATE registry.audit_roots SET signature = ${Buffer.alloc(64)}`);
  await expect(audit.replica({ rootsFile })).rejects.toThrow(/not signed by a published key/);
});

test("the key is made once, for this user only, and a named key must be there", async () => {
  const file = join(audit.folder, "keys", "key.pem");
  await expect(openSigningKey(file, { create: false })).rejects.toMatchObject({ reason: "CONFIG_INVALID" });
  const [one, two] = await Promise.all([
    openSigningKey(file, { create: true }),
    openSigningKey(file, { create: true }),
  ]);
  expect(one.keyId).toBe(two.keyId);
  expect((await openSigningKey(file, { create: false })).keyId).toBe(one.keyId);
  expect((await stat(file)).mode & 0o777).toBe(0o600);
  expect(decodeKeySet(await readFile(publicKeyFile(file), "utf8"))).toMatchObject([{ keyId: one.keyId }]);
  await writeFile(file, "garbage");
  await expect(openSigningKey(file, { create: true })).rejects.toMatchObject({ reason: "CONFIG_INVALID" });
});

function readOf(tenant: string, callId: string) {
  const resource = `tenants/${tenant}/vectors/cheerful/versions/${"a".repeat(64)}`;
  return { tenant, actor: "worker", resource, digest: "a".repeat(64), callId, purpose: "test" };
}
