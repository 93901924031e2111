import { sql } from "kysely";
import { afterEach, beforeEach, expect, test } from "vitest";
import { openTestAudit, type TestAudit } from "./testing/test-audit.ts";

// Whoever owns the database can switch off all that guards it. What they do shows outside of it.

let audit: TestAudit;

/** acme has entries 1 (its creation) to 8 under three roots. */
beforeEach(async () => {
  audit = await openTestAudit();
  await audit.write("acme", 3);
  await audit.roots.sign();
  await audit.write("globex", 2);
  await audit.write("acme", 2);
  await audit.roots.sign();
  await audit.write("acme", 2);
  await audit.roots.sign();
});

afterEach(() => audit.close());

/** As the superuser, without triggers. */
async function tamper(...statements: string[]): Promise<void> {
  await audit.database.owner.db.connection().execute(async (db) => {
    await sql`SET session_replication_role = replica`.execute(db);
    for (const statement of statements) await sql.raw(statement).execute(db);
    await sql`SET session_replication_role = DEFAULT`.execute(db);
  });
}

/** Links every entry of acme's changes anew, and moves the head: what the chain itself can then not show. */
const RELINK = `DO $$
DECLARE
  entry registry.audit%ROWTYPE;
  place bigint := 0;
  link text := repeat('0', 64);
BEGIN
  FOR entry IN SELECT * FROM registry.audit WHERE tenant = 'acme' AND chain = 'CHANGES' ORDER BY sequence LOOP
    place := place + 1;
    UPDATE registry.audit SET sequence = place, previous_hash = link,
        hash = encode(sha256(convert_to(place || E'\\n' || link || E'\\n' || entry.payload, 'UTF8')), 'hex')
      WHERE tenant = 'acme' AND chain = 'CHANGES' AND sequence = entry.sequence RETURNING hash INTO link;
  END LOOP;
  UPDATE registry.audit_heads SET sequence = place, hash = link WHERE tenant = 'acme' AND chain = 'CHANGES';
END $$`;

const ACME = "tenant = 'acme' AND chain = 'CHANGES'";

test("what nobody touched is good to the last entry", async () => {
  expect(await audit.verify()).toMatchObject({
    ok: true,
    chains: { CHANGES: { entries: 8n, proven: 8n, unsigned: 0n }, READS: { entries: 0n } },
    newestRoot: { number: 3n },
    warnings: [],
  });
});

test("the database refuses all of it to everybody but its owner", async () => {
  const { service, auditor, watch } = audit.database;
  for (const { db } of [service, auditor, watch]) {
    for (const table of ["audit", "audit_heads", "audit_roots", "audit_root_heads", "audit_keys"]) {
      await expect(sql`DELETE FROM ${sql.table(table)}`.execute(db)).rejects.toThrow(/permission denied/);
      await expect(sql`UPDATE ${sql.table(table)} SET hash = ''`.execute(db)).rejects.toThrow(
        /permission denied|does not exist/,
      );
    }
  }
  // The owner has to switch triggers off first.
  await expect(sql`DELETE FROM registry.audit`.execute(audit.database.owner.db)).rejects.toThrow(/never changed/);
});

test("a changed payload is named", async () => {
  await tamper(`UPDATE registry.audit SET payload = '{"actor":"somebody else"}' WHERE ${ACME} AND sequence = 3`);
  expect((await audit.verify()).firstBad).toMatchObject({ chain: "CHANGES", sequence: 3n, reason: "ENTRY_CHANGED" });
});

test("a changed payload with the whole chain recomputed is named, and nothing more is signed over it", async () => {
  await tamper(
    `UPDATE registry.audit SET payload = '{"actor":"somebody else"}' WHERE ${ACME} AND sequence = 6`,
    RELINK,
  );
  await audit.write("acme");
  await expect(audit.roots.sign()).rejects.toMatchObject({ reason: "AUDIT_ROOTS_DIVERGED" });
  expect(audit.roots.state.kind).toBe("diverged");
  expect(await audit.outside()).toHaveLength(3);
  const report = await audit.verify();
  expect(report.firstBad).toMatchObject({ sequence: 5n, reason: "ENTRY_CHANGED" });
  expect(report.firstBad?.message).toContain("entries 5 to 6");
});

test("a changed payload with its hash and the signed heads recomputed is betrayed by the roots", async () => {
  await tamper(
    `UPDATE registry.audit SET payload = '{"actor":"somebody else"}' WHERE ${ACME} AND sequence = 6`,
    RELINK,
    `UPDATE registry.audit_root_heads h SET hash = a.hash FROM registry.audit a
     WHERE (a.tenant, a.chain, a.sequence) = (h.tenant, h.chain, h.sequence)`,
  );
  const report = await audit.verify();
  expect(report.ok).toBe(false);
  expect(report.problems.map(({ reason }) => reason)).toContain("INCLUSION_INVALID");
  expect(report.chains.CHANGES.proven).toBeLessThan(6n);
});

test("a deleted entry in the middle is named, also when the others close up", async () => {
  await tamper(`DELETE FROM registry.audit WHERE ${ACME} AND sequence = 4`);
  expect((await audit.verify()).firstBad).toMatchObject({ sequence: 4n, reason: "ENTRY_MISSING" });
  await tamper(RELINK);
  expect((await audit.verify()).firstBad).toMatchObject({ sequence: 1n, reason: "ENTRY_CHANGED" });
});

test("deleted newest entries are named", async () => {
  await tamper(`DELETE FROM registry.audit WHERE ${ACME} AND sequence >= 7`, RELINK);
  await expect(audit.roots.sign()).rejects.toMatchObject({ reason: "AUDIT_ROOTS_DIVERGED" });
  expect((await audit.verify()).firstBad).toMatchObject({ sequence: 7n, reason: "ENTRY_MISSING" });
});

test("newest entries that are deleted with their roots show against the roots outside, and the signer refuses", async () => {
  await tamper(
    `DELETE FROM registry.audit WHERE ${ACME} AND sequence >= 7`,
    RELINK,
    "DELETE FROM registry.audit_root_heads WHERE number = 3",
    "DELETE FROM registry.audit_roots WHERE number = 3",
  );
  const report = await audit.verify();
  expect(report.problems).toMatchObject([{ reason: "ROOT_MISSING", root: 3n }]);
  expect(audit.roots.state).toMatchObject({ kind: "diverged" });
});

test("swapped entries are named", async () => {
  await tamper(
    `UPDATE registry.audit SET sequence = -4 WHERE ${ACME} AND sequence = 4`,
    `UPDATE registry.audit SET sequence = 4 WHERE ${ACME} AND sequence = 5`,
    `UPDATE registry.audit SET sequence = 5 WHERE ${ACME} AND sequence = -4`,
  );
  expect((await audit.verify()).firstBad).toMatchObject({ sequence: 4n, reason: "ENTRY_CHANGED" });
});

test("another tenant's entries under this one's name are named", async () => {
  await tamper(
    `DELETE FROM registry.audit WHERE ${ACME}`,
    "UPDATE registry.audit SET tenant = 'acme' WHERE tenant = 'globex'",
  );
  const report = await audit.verify();
  expect(report.ok).toBe(false);
  expect(report.firstBad).toMatchObject({ chain: "CHANGES" });
  expect(report.chains.CHANGES.proven).toBe(0n);
});

test("a history that is signed with another key is refused", async () => {
  const stranger = await audit.replica();
  await tamper(
    `UPDATE registry.audit SET payload = '{"actor":"somebody else"}' WHERE ${ACME} AND sequence = 8`,
    RELINK,
    "DELETE FROM registry.audit_root_heads",
    "DELETE FROM registry.audit_roots",
  );
  await using forger = await audit.replica();
  await forger.sign();
  expect(stranger.keyId).not.toBe(forger.keyId);
  const report = await audit.verify();
  const reasons = report.problems.map(({ reason }) => reason);
  expect(reasons).toContain("ROOT_UNTRUSTED");
  expect(report.chains.CHANGES.proven).toBe(0n);
});
