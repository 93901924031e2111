import { create } from "@bufbuild/protobuf";
import { decodeExportLine } from "@persona-mesh/audit";
import { ExportAuditRequestSchema } from "@persona-mesh/protocol/registry";
import { sql } from "kysely";
import { afterEach, beforeEach, expect, test } from "vitest";
import { exportAudit } from "./export-audit.ts";
import { callOf, openTestAudit, type TestAudit } from "./testing/test-audit.ts";

let audit: TestAudit;

beforeEach(async () => {
  audit = await openTestAudit();
});

afterEach(() => audit.close());

const REQUEST = create(ExportAuditRequestSchema, { parent: "tenants/acme" });

/** Add entries with payloads of some size, all in one transaction. */
async function writeMany(count: number, bytes: number): Promise<void> {
  await audit.database.service.db.transaction().execute(async (db) => {
    await sql`SELECT set_config('persona.tenant', 'acme', true)`.execute(db);
    await sql`INSERT INTO audit (tenant, chain, payload)
      SELECT 'acme', 'CHANGES', json_build_object('n', n, 'pad', repeat('x', ${bytes}))::text
      FROM generate_series(1, ${count}) n`.execute(db);
  });
}

test("a chain comes whole and in order, however many entries it has and however large they are", async () => {
  await writeMany(600, 10);
  await writeMany(3, 1024 * 1024 - 100);
  await writeMany(25, 100_000);
  expect(await audit.verify()).toMatchObject({
    ok: true,
    chains: { CHANGES: { entries: 629n, proven: 629n } },
    warnings: [],
  });
});

test("every root under which the tenant moved comes once, with its proofs, and no other but the newest", async () => {
  for (let n = 0; n < 102; n++) {
    await audit.write("acme");
    if (n % 10 === 0) await audit.registry.readAudit.record([READ]);
    await audit.roots.sign();
  }
  await audit.write("globex");
  await audit.roots.sign();
  await audit.write("globex");
  expect(await audit.verify()).toMatchObject({ ok: true, roots: 103, newestRoot: { number: 104n } });
  const lines = await audit.export("acme");
  // One for each change, one for each read, and two under the newest root.
  expect(lines.filter((line) => decodeExportLine(line)?.item.case === "inclusion")).toHaveLength(102 + 11 + 2);
});

test("a tenant without reads proves that it has none", async () => {
  await audit.write("acme");
  const lines = await audit.export("acme");
  const proofs = lines.map((line) => decodeExportLine(line)?.item).filter((item) => item?.case === "inclusion");
  expect(proofs.map((item) => item?.value)).toMatchObject([{ sequence: 2n }, { sequence: 0n, hash: "0".repeat(64) }]);
});

test("a client that reads slowly holds no transaction, and is done although others go on writing", async () => {
  await writeMany(600, 10);
  let entries = 0;
  for await (const { item } of exportAudit(audit.registry, REQUEST, callOf("acme"))) {
    if (item?.case !== "entry") continue;
    if (entries++ % 100 !== 0) continue;
    await audit.write("acme");
    const { rows } = await sql<{ open: bigint }>`SELECT count(*) AS open FROM pg_stat_activity
      WHERE datname = current_database() AND state LIKE 'idle in transaction%'`.execute(audit.database.owner.db);
    expect(rows).toEqual([{ open: 0n }]);
  }
  expect(entries).toBe(601);
});

test("an export that was given up leaves nothing open", async () => {
  await writeMany(600, 10);
  for await (const { item } of exportAudit(audit.registry, REQUEST, callOf("acme"))) if (item?.case === "entry") break;
  expect(audit.database.auditor.metrics.open - audit.database.auditor.metrics.idle).toBe(0);
  expect(audit.database.service.metrics.open - audit.database.service.metrics.idle).toBe(0);
});

test("foreign and unknown tenants have no export", async () => {
  const read = (tenant: string, parent: string) =>
    Array.fromAsync(exportAudit(audit.registry, create(ExportAuditRequestSchema, { parent }), callOf(tenant)));
  await expect(read("globex", "tenants/acme")).rejects.toMatchObject({ reason: "RESOURCE_NOT_FOUND" });
  await expect(read("nobody", "tenants/nobody")).rejects.toMatchObject({ reason: "RESOURCE_NOT_FOUND" });
  await expect(read("acme", "acme")).rejects.toMatchObject({ reason: "INVALID_ARGUMENT" });
});

const READ = { tenant: "acme", actor: "worker", resource: "tenants/acme", digest: "d", callId: "c", purpose: "test" };
