import { createHash, randomUUID } from "node:crypto";
import { type RawBuilder, sql } from "kysely";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import * as rows from "../testing/governed-rows.ts";
import { openTestDatabase, type TestDatabase } from "../testing/test-database.ts";

/** A service that has been taken over: it has the service's role and plain SQL, and none of our code in its way. */
let database: TestDatabase;
const { actAs, digestOf } = rows;

beforeAll(async () => {
  database = await openTestDatabase();
  await rows.addTenants(database.service, "acme", "rival");
  for (const tenant of ["acme", "rival"]) {
    await act(tenant, ...rows.publish(tenant, 1), rows.evaluate(tenant, 1), rows.approve(tenant, 1, "bob"));
    await act(tenant, ...rows.pointAlias(tenant, "production", 1), ...rows.writePersona(tenant, "sunny", [[1, 40]]));
    await act(tenant, ...rows.activate(tenant, "sunny"));
  }
  await act("acme", ...rows.publish("acme", 2), ...rows.publish("acme", 3), rows.evaluate("acme", 2));
});
afterAll(() => database.close());

/** Waits as long as a busy machine takes. */
const eventually = <T>(read: () => T) => expect.poll(read, { timeout: 10_000 });

const act = (tenant: string, ...statements: RawBuilder<unknown>[]) => actAs(database.service, tenant, statements);

/** What the statements end with, the commit included: a constraint's name, or a SQLSTATE. Nothing of them stays. */
async function refusal(tenant: string, ...statements: RawBuilder<unknown>[]): Promise<string | undefined> {
  return tryOut(tenant, ...statements, rows.auditEntry(tenant));
}

/** The same without the audit entry that each change needs. */
async function tryOut(tenant: string, ...statements: RawBuilder<unknown>[]): Promise<string | undefined> {
  const all = [...statements, sql`SET CONSTRAINTS ALL IMMEDIATE`, sql`SELECT 1 / 0`];
  return refusalOf(() => actAs(database.service, tenant, all, { audited: false }));
}

async function refusalOf(work: () => Promise<unknown>): Promise<string | undefined> {
  const error = (await work().catch((caught: unknown) => caught)) as { code?: string; constraint?: string };
  // Everything went well up to the division that undoes it.
  if (error?.code === "22012") return "accepted";
  return error?.code === "PM001" || error?.code === "23514" ? error.constraint : error?.code;
}

async function read(tenant: string, query: RawBuilder<unknown>, pool = database.service): Promise<unknown[]> {
  return pool.db.transaction().execute(async (db) => {
    await sql`SELECT set_config('persona.tenant', ${tenant}, true)`.execute(db);
    return (await query.execute(db)).rows;
  });
}

describe("what is written stays", () => {
  const KEPT = {
    versions: "VERSION_IMMUTABLE",
    contents: "VERSION_IMMUTABLE",
    evaluations: "VERSION_IMMUTABLE",
    alias_targets: "HISTORY_IMMUTABLE",
    activations: "HISTORY_IMMUTABLE",
    persona_revisions: "REVISION_IMMUTABLE",
    persona_terms: "REVISION_IMMUTABLE",
    approvals: "APPROVAL_IMMUTABLE",
    audit: "AUDIT_APPEND_ONLY",
  };

  test.each(Object.entries(KEPT))("%s", async (table, reason) => {
    const name = sql.id(table);
    expect(await read("acme", sql`SELECT 1 FROM ${name} LIMIT 1`)).toHaveLength(1);
    expect(await refusal("acme", sql`DELETE FROM ${name}`)).toBe("42501");
    expect(await refusal("acme", sql`TRUNCATE ${name} CASCADE`)).toBe("42501");
    if (table !== "approvals") {
      expect(await refusal("acme", sql`UPDATE ${name} SET tenant = tenant`)).toBe("42501");
    }
    // Not even who owns the table, or is above all rules of rows, as long as its triggers stand.
    for (const statement of [
      sql`DELETE FROM ${name}`,
      sql`UPDATE ${name} SET tenant = 'rival' WHERE tenant = 'acme'`,
    ]) {
      expect(await refusalOf(() => actAs(database.owner, "acme", [statement])), table).toBe(reason);
    }
  });

  test("an approval can be withdrawn and nothing else", async () => {
    expect(await refusal("acme", sql`UPDATE approvals SET revoked_at = now(), revoked_by = 'bob'`)).toBe("accepted");
    for (const change of [
      sql`decision = 'REJECT'`,
      sql`approver = 'mallory'`,
      sql`digest = ${digestOf(2)}`,
      sql`expires_at = expires_at + interval '1 year'`,
    ]) {
      expect(await refusal("acme", sql`UPDATE approvals SET ${change}`)).toBe("APPROVAL_IMMUTABLE");
    }
    expect(await refusal("acme", sql`UPDATE approvals SET created_at = now()`)).toBe("42501");
    expect(
      await refusal(
        "acme",
        sql`UPDATE approvals SET revoked_at = now(), revoked_by = 'bob'`,
        sql`UPDATE approvals SET revoked_at = NULL, revoked_by = NULL`,
      ),
    ).toBe("APPROVAL_IMMUTABLE");
  });

  test("a model keeps its weights and shape", async () => {
    const change = (set: RawBuilder<unknown>) => refusal("platform", sql`UPDATE models SET ${set}`);
    expect(await change(sql`display_name = 'x', tokenizer_digest = ${"d".repeat(64)}`)).toBe("accepted");
    expect(await change(sql`hidden_size = 16`)).toBe("MODEL_IMMUTABLE");
    expect(await change(sql`layers = 5`)).toBe("MODEL_IMMUTABLE");
    expect(await change(sql`model_checksum = ${"e".repeat(64)}`)).toBe("MODEL_IMMUTABLE");
    expect(
      await refusal(
        "acme",
        sql`INSERT INTO models (model, model_checksum, architecture, layers, hidden_size,
      vocabulary_size) VALUES ('mine', ${"f".repeat(64)}, 'x', 1, 1, 1)`,
      ),
    ).toBe("42501");
  });
});

describe("tenants do not see each other", () => {
  test("whatever the table, the service sees the rows of its tenant alone, and none where it names none", async () => {
    const tables = (await read(
      "acme",
      sql`SELECT c.relname AS name FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
        WHERE c.relnamespace = 'registry'::regnamespace AND c.relkind = 'r' AND a.attname = 'tenant'
          AND has_table_privilege(c.oid, 'SELECT')`,
    )) as { name: string }[];
    expect(tables.length).toBeGreaterThan(15);
    let seen = 0;
    for (const { name } of tables) {
      const foreign = sql`SELECT tenant FROM ${sql.id(name)} WHERE tenant <> 'acme'`;
      expect(await read("acme", foreign), name).toEqual([]);
      expect(await read("", sql`SELECT tenant FROM ${sql.id(name)}`), name).toEqual([]);
      expect((await sql`SELECT FROM ${sql.id(name)}`.execute(database.service.db)).rows, name).toEqual([]);
      seen += (await read("acme", sql`SELECT 1 FROM ${sql.id(name)} LIMIT 1`)).length;
    }
    expect(seen).toBeGreaterThan(10);
  });

  test("no query looks behind the policies", async () => {
    await database.owner.db.transaction().execute(async (db) => {
      await sql`CREATE FUNCTION public.leak(t text) RETURNS boolean LANGUAGE plpgsql COST 0.0001 AS
        $$ BEGIN RAISE NOTICE '%', t; IF t = 'rival' THEN RAISE 'leaked'; END IF; RETURN true; END $$`.execute(db);
    });
    expect(await read("acme", sql`SELECT DISTINCT tenant FROM versions WHERE public.leak(tenant)`)).toEqual([
      { tenant: "acme" },
    ]);
    expect(
      await read(
        "acme",
        sql`SELECT count(*) FROM versions v FULL JOIN approvals a USING (tenant)
      WHERE tenant = 'rival'`,
      ),
    ).toEqual([{ count: 0n }]);
    expect(
      await refusalOf(() => read("acme", sql`SELECT set_config('row_security', 'off', true), count(*) FROM versions`)),
    ).toBeUndefined();
    expect(
      await refusalOf(() =>
        database.service.db.transaction().execute(async (db) => {
          await sql`SET LOCAL row_security = off`.execute(db);
          await sql`SELECT FROM versions`.execute(db);
        }),
      ),
    ).toBe("42501");
  });

  test("whether a model is used is for the platform to know, and nothing else of versions", async () => {
    const used = sql`SELECT model_is_used(${rows.MODEL_CHECKSUM}) AS used`;
    expect(await read("platform", used)).toEqual([{ used: true }]);
    expect(await read("acme", used)).toEqual([{ used: false }]);
    expect(await read("platform", sql`SELECT model_is_used(${"9".repeat(64)}) AS used`)).toEqual([{ used: false }]);
    expect(await read("platform", sql`SELECT FROM versions`)).toEqual([]);
  });

  test("nothing can be written for another tenant, or handed to it", async () => {
    expect(await refusal("acme", sql`INSERT INTO vectors (tenant, vector) VALUES ('rival', 'x')`)).toBe("42501");
    expect(await refusal("acme", sql`UPDATE vectors SET tenant = 'rival'`)).toBe("42501");
    expect(await refusal("acme", sql`UPDATE tenants SET display_name = 'x' WHERE tenant = 'rival'`)).toBe("accepted");
    expect(await read("rival", sql`SELECT display_name FROM tenants`)).toEqual([{ display_name: "" }]);
    expect(await refusal("acme", sql`INSERT INTO tenants (tenant) VALUES ('mine')`)).toBe("42501");
    expect(
      await refusal("acme", sql`INSERT INTO audit (tenant, chain, payload) VALUES ('rival', 'CHANGES', '{}')`),
    ).toBe("42501");
    expect(
      await refusal("acme", sql`INSERT INTO audit (tenant, chain, payload) VALUES ('platform', 'CHANGES', '{}')`),
    ).toBe("42501");
  });

  test("the owner sees no rows either, but for the heads that its triggers keep and which models versions are for", async () => {
    await database.owner.db.transaction().execute(async (db) => {
      await sql`SET LOCAL ROLE persona_owner`.execute(db);
      for (const table of ["tenants", "contents", "audit", "approvals", "changes", "audit_roots"]) {
        expect((await sql`SELECT FROM ${sql.id(table)}`.execute(db)).rows, table).toEqual([]);
      }
    });
  });

  test("watching sees what is served, and can change none of it; signing sees hashes and not what is said", async () => {
    const seen = await read("", sql`SELECT DISTINCT tenant FROM versions ORDER BY 1`, database.watch);
    expect(seen).toEqual([{ tenant: "acme" }, { tenant: "rival" }]);
    for (const table of ["approvals", "audit", "audit_heads", "break_glass_uses", "evaluations", "activations"]) {
      await expect(sql`SELECT FROM ${sql.id(table)}`.execute(database.watch.db), table).rejects.toMatchObject({
        code: "42501",
      });
    }
    for (const table of ["tenants", "personas", "versions", "revocations"]) {
      await expect(sql`DELETE FROM ${sql.id(table)}`.execute(database.watch.db), table).rejects.toMatchObject({
        code: "42501",
      });
    }
    await expect(sql`SELECT response FROM requests`.execute(database.watch.db)).rejects.toMatchObject({
      code: "42501",
    });
    expect((await sql`SELECT FROM audit_heads`.execute(database.auditor.db)).rows.length).toBeGreaterThan(2);
    for (const column of ["payload", "actor", "resource"]) {
      await expect(sql`SELECT ${sql.id(column)} FROM audit`.execute(database.auditor.db), column).rejects.toMatchObject(
        { code: "42501" },
      );
    }
    await expect(sql`UPDATE audit_heads SET sequence = 0`.execute(database.auditor.db)).rejects.toMatchObject({
      code: "42501",
    });
  });
});

describe("versions are what their digest says", () => {
  test("bytes are filed under their own sha256 alone", async () => {
    const bytes = rows.vectorBytes(9);
    const filed = (digest: string) =>
      refusal("acme", sql`INSERT INTO contents (tenant, digest, bytes) VALUES ('acme', ${digest}, ${bytes})`);
    expect(await filed(digestOf(9))).toBe("accepted");
    expect(await filed(digestOf(8))).toBe("contents_check");
    expect(await filed(digestOf(9).toUpperCase())).toBe("sha256_hex_check");
  });

  test("the columns say what the bytes say", async () => {
    const publish = (change: Record<string, unknown>) =>
      refusal("acme", rows.contentRow("acme", rows.vectorBytes(9)), rows.versionRow("acme", 9, change));
    expect(await publish({})).toBe("accepted");
    for (const change of [
      { model_checksum: "d".repeat(64) },
      { hidden_size: 16 },
      { layer_count: 5 },
      { layers: [1] },
      { graph_digest: "d".repeat(64) },
      { manifest: "{}" },
    ]) {
      expect(await publish(change), JSON.stringify(change)).toBe("VERSION_INCONSISTENT");
    }
    for (const bytes of [Buffer.from("no vector"), Buffer.from([1]), Buffer.alloc(64, 0xff)]) {
      const digest = createHash("sha256").update(bytes).digest("hex");
      expect(await refusal("acme", rows.contentRow("acme", bytes), rows.versionRow("acme", 9, { digest }))).toBe(
        "VERSION_INCONSISTENT",
      );
    }
  });

  test("a version is for a registered model", async () => {
    await database.owner.db.transaction().execute(async (db) => {
      await sql`SET LOCAL session_replication_role = replica`.execute(db);
      await sql`UPDATE models SET deleted_at = now()`.execute(db);
    });
    expect(await refusal("acme", ...rows.publish("acme", 9))).toBe("MODEL_NOT_FOUND");
    await actAs(database.service, "platform", [sql`UPDATE models SET deleted_at = NULL`]);
    expect(await refusal("acme", ...rows.publish("acme", 9))).toBe("accepted");
  });
});

describe("nobody approves alone", () => {
  test("neither who submitted it nor who asked for it, whatever the policy", async () => {
    expect(await refusal("acme", rows.approve("acme", 2, "alice"))).toBe("SELF_APPROVAL");
    expect(
      await refusal("acme", sql`UPDATE tenants SET approvers = '{alice,bob}'`, rows.approve("acme", 2, "alice")),
    ).toBe("SELF_APPROVAL");
    const asked = [
      rows.contentRow("acme", rows.vectorBytes(9)),
      rows.versionRow("acme", 9, { submitter: "calibrator", requested_by: "erin" }),
    ];
    expect(await refusal("acme", ...asked, rows.approve("acme", 9, "erin"))).toBe("SELF_APPROVAL");
    expect(await refusal("acme", ...asked, rows.approve("acme", 9, "calibrator"))).toBe("SELF_APPROVAL");
    expect(await refusal("acme", ...asked, rows.approve("acme", 9, "bob"))).toBe("accepted");
  });

  test("only who the policy names, once, from now on and no longer than it allows", async () => {
    const policy = sql`UPDATE tenants SET approvers = '{bob}', approval_lifetime_seconds = 3600`;
    expect(await refusal("acme", policy, rows.approve("acme", 2, "mallory"))).toBe("NOT_AN_APPROVER");
    expect(await refusal("acme", sql`UPDATE tenants SET approvers = '{NULL}'`)).toBe("tenants_approvers_check");
    expect(await refusal("acme", rows.approve("acme", 2, "bob"), rows.approve("acme", 2, "bob"))).toBe(
      "ALREADY_DECIDED",
    );
    const found = sql<Record<string, boolean>>`DO $$ BEGIN
      ASSERT (SELECT created_at = now() AND expires_at = now() + interval '1 hour' AND revoked_at IS NULL
        FROM approvals WHERE digest = '${sql.raw(digestOf(2))}'); END $$`;
    const dated = rows.approve("acme", 2, "bob", {
      created_at: new Date(Date.now() - 9e9),
      expires_at: new Date(Date.now() + 9e12),
      revoked_at: new Date(),
      revoked_by: "bob",
    });
    expect(await refusal("acme", policy, dated, found)).toBe("accepted");
  });
});

describe("the way to production", () => {
  test("an alias comes to production by the gate alone", async () => {
    const move = (...before: RawBuilder<unknown>[]) =>
      refusal("acme", ...before, ...rows.pointAlias("acme", "production", 2, { number: 2 }));
    expect(await move()).toBe("NOT_APPROVED");
    expect(await move(rows.approve("acme", 2, "bob"))).toBe("accepted");
    expect(await move(rows.approve("acme", 2, "bob"), rows.approve("acme", 2, "carol", { decision: "REJECT" }))).toBe(
      "NOT_APPROVED",
    );
    expect(await move(sql`UPDATE tenants SET required_approvals = 2`, rows.approve("acme", 2, "bob"))).toBe(
      "NOT_APPROVED",
    );
    const withdrawn = sql`UPDATE approvals SET revoked_at = now(), revoked_by = 'bob' WHERE digest = ${digestOf(2)}`;
    expect(await move(rows.approve("acme", 2, "bob"), withdrawn)).toBe("NOT_APPROVED");
    expect(await move(rows.approve("acme", 2, "bob"), ...rows.revoke("acme", 2))).toBe("VERSION_REVOKED");
    expect(await refusal("acme", ...rows.pointAlias("acme", "canary", 2))).toBe("accepted");
  });

  test("an approval that has run out is none", async () => {
    const expired = { expires_at: sql`now() + interval '1 microsecond'` };
    // now() stands still within a transaction, so the gate is asked in the next.
    await act("rival", ...rows.publish("rival", 2), rows.approve("rival", 2, "bob", expired));
    expect(await refusal("rival", ...rows.pointAlias("rival", "production", 2, { number: 2 }))).toBe("NOT_APPROVED");
  });

  test("an alias is not renamed, and does not move behind the back of its history", async () => {
    const canary = rows.pointAlias("acme", "canary", 2);
    for (const rename of [sql`alias = 'production'`, sql`vector = 'x'`, sql`tenant = 'rival'`]) {
      expect(await refusal("acme", ...canary, sql`UPDATE aliases SET ${rename} WHERE alias = 'canary'`)).toBe("42501");
    }
    const rename = [
      sql`DELETE FROM aliases WHERE alias = 'production'`,
      ...canary,
      sql`UPDATE aliases SET alias = 'production' WHERE alias = 'canary'`,
    ];
    expect(await refusalOf(() => actAs(database.owner, "acme", rename))).toBe("NOT_APPROVED");
    expect(
      await refusal(
        "acme",
        rows.approve("acme", 2, "bob"),
        sql`UPDATE aliases SET digest = ${digestOf(2)} WHERE alias = 'production'`,
      ),
    ).toBe("23503");
    expect(await refusal("acme", sql`UPDATE aliases SET number = 7`)).toBe("23503");
  });

  test("break-glass opens the gate in the transaction that wrote it down, and not to what is revoked", async () => {
    const use = randomUUID();
    const move = rows.pointAlias("acme", "production", 2, { number: 2, glass: use });
    expect(await refusal("acme", ...move)).toBe("NOT_APPROVED");
    expect(await refusal("acme", rows.breakGlass("acme", use), ...move)).toBe("accepted");
    expect(await refusal("acme", rows.breakGlass("acme", use), ...rows.revoke("acme", 2), ...move)).toBe(
      "VERSION_REVOKED",
    );
    await act("acme", rows.breakGlass("acme", use));
    expect(await refusal("acme", ...move)).toBe("NOT_APPROVED");
    expect(await refusal("acme", sql`UPDATE break_glass_uses SET xact = pg_current_xact_id()`, ...move)).toBe("42501");
  });

  test("a use of break-glass waits for a second person", async () => {
    const use = randomUUID();
    await act(
      "acme",
      rows.breakGlass("acme", use, { reviewer: "bob", accepted: true, reviewed_at: new Date(), note: "fine" }),
    );
    const unreviewed = sql`SELECT 1 AS found FROM break_glass_uses WHERE use = ${use} AND reviewer IS NULL AND note IS NULL`;
    expect(await read("acme", unreviewed)).toHaveLength(1);
    const review = (by: string) =>
      sql`UPDATE break_glass_uses SET reviewer = ${by}, accepted = true, reviewed_at = now() WHERE use = ${use}`;
    expect(await refusal("acme", review("alice"))).toBe("SELF_REVIEW");
    expect(await refusal("acme", review("bob"))).toBe("accepted");
    expect(await refusal("acme", review("bob"), review("carol"))).toBe("ALREADY_REVIEWED");
    expect(await refusal("acme", sql`UPDATE break_glass_uses SET justification = 'other'`)).toBe("ALREADY_REVIEWED");
  });

  test("a revocation and a move wait for each other", async () => {
    await act("acme", ...rows.publish("acme", 5), rows.approve("acme", 5, "bob"));
    let moved: Promise<string | undefined> | undefined;
    await database.service.db.transaction().execute(async (db) => {
      await sql`SELECT set_config('persona.tenant', 'acme', true)`.execute(db);
      for (const statement of rows.revoke("acme", 5)) await statement.execute(db);
      moved = refusal("acme", ...rows.pointAlias("acme", "production", 5, { number: 2 }));
      const waiting = sql`SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()`;
      await eventually(async () => (await waiting.execute(database.owner.db)).rows).toHaveLength(1);
      await rows.auditEntry("acme").execute(db);
    });
    expect(await moved).toBe("VERSION_REVOKED");
  });
});

describe("the active persona", () => {
  const persona = (terms: readonly (readonly [number, number])[]) => rows.writePersona("acme", "calm", terms);
  const switchTo = (...before: RawBuilder<unknown>[]) =>
    refusal("acme", ...before, ...rows.activate("acme", "calm", { entry: 2 }));

  test("has only terms that are approved, validated and under the cap", async () => {
    expect(await switchTo(...persona([[1, 40]]))).toBe("accepted");
    expect(
      await switchTo(
        ...persona([
          [1, 40],
          [2, 10],
        ]),
      ),
    ).toBe("NOT_APPROVED");
    expect(
      await switchTo(
        rows.approve("acme", 2, "bob"),
        ...persona([
          [1, 40],
          [2, 10],
        ]),
      ),
    ).toBe("accepted");
    expect(await switchTo(rows.approve("acme", 3, "bob"), ...persona([[3, 10]]))).toBe("ALPHA_NOT_VALIDATED");
    expect(await switchTo(rows.evaluate("acme", 1, -20, 20, 2), ...persona([[1, 40]]))).toBe("ALPHA_NOT_VALIDATED");
    // Approved before it was validated that far: approving it is asked for anew.
    expect(await switchTo(rows.evaluate("acme", 1, -80, 80, 2), ...persona([[1, 60]]))).toBe("NOT_APPROVED");
    expect(
      await switchTo(rows.evaluate("acme", 1, -80, 80, 2), rows.approve("acme", 1, "dora"), ...persona([[1, 60]])),
    ).toBe("ALPHA_OVER_CAP");
    expect(await switchTo(...persona([]))).toBe("NOT_COMPOSED");
    expect(await switchTo(...persona([[1, 40]]), ...rows.revoke("acme", 1))).toBe("VERSION_REVOKED");
  });

  test("break-glass skips people, not what was measured", async () => {
    const use = randomUUID();
    const glass = (...before: RawBuilder<unknown>[]) =>
      refusal(
        "acme",
        rows.breakGlass("acme", use),
        ...before,
        ...rows.activate("acme", "calm", { entry: 2, glass: use }),
      );
    expect(await glass(...persona([[2, 10]]))).toBe("accepted");
    expect(await glass(...persona([[3, 10]]))).toBe("ALPHA_NOT_VALIDATED");
    expect(await glass(...persona([[2, 10]]), ...rows.revoke("acme", 2))).toBe("VERSION_REVOKED");
  });

  test("takes on no term later, not even in the same transaction", async () => {
    expect(await refusal("acme", rows.termRow("acme", "sunny", 1, 1, 3, 10))).toBe("REVISION_IMMUTABLE");
    const later = rows.termRow("acme", "calm", 1, 1, 3, 10);
    expect(await refusal("acme", ...persona([[1, 40]]), ...rows.activate("acme", "calm", { entry: 2 }), later)).toBe(
      "REVISION_IMMUTABLE",
    );
  });

  test("is not there from the start of a tenant, and not without an entry in the history", async () => {
    const [row] = rows.activate("acme", "calm");
    expect(await refusal("acme", ...persona([[1, 40]]), row as RawBuilder<unknown>)).toBe("HISTORY_MISSING");
    const born = sql`INSERT INTO tenants (tenant, active_persona, active_number) VALUES ('fresh', 'calm', 1)`;
    expect(await refusal("platform", born)).toBe("TENANT_SWITCHED");
    expect(await refusal("fresh", born)).toBe("NOT_COMPOSED");
    expect(await refusal("platform", sql`INSERT INTO tenants (tenant) VALUES ('platform')`)).toBe(
      "tenants_tenant_check",
    );
  });

  test("the same gate stands before a release", async () => {
    const release = sql`UPDATE personas SET released = 1 WHERE persona = 'calm'`;
    expect(await refusal("acme", ...persona([[1, 40]]), release)).toBe("accepted");
    expect(await refusal("acme", ...persona([[2, 10]]), release)).toBe("NOT_APPROVED");
    // Looking away does not help: the gate judges nothing that it cannot see.
    expect(
      await tryOut(
        "acme",
        ...persona([[2, 10]]),
        release,
        rows.auditEntry("acme"),
        sql`SELECT set_config('persona.tenant', 'rival', true)`,
      ),
    ).toBe("TENANT_SWITCHED");
  });

  test("terms fit the revision's model and their version's layers", async () => {
    expect(await refusal("acme", ...persona([]), rows.termRow("acme", "calm", 1, 0, 1, 10, [3]))).toBe(
      "LAYER_OUT_OF_RANGE",
    );
    const other = "d".repeat(64);
    await actAs(database.service, "platform", [
      sql`INSERT INTO models (model, model_checksum, architecture, layers, hidden_size, vocabulary_size) VALUES ('other', ${other}, 'x', 4, 8, 1)`,
    ]);
    const foreign = sql`INSERT INTO persona_revisions (tenant, persona, number, digest, model_checksum, mode, positions, policy, composition, cap_hundredths, cause, created_by)
      VALUES ('acme', 'calm', 1, ${"c".repeat(64)}, ${other}, 'ADD', 'ALL', 'REJECT', '{"outcome":"ACCEPTED"}', 50, 'WRITTEN', 'alice')`;
    expect(await refusal("acme", foreign, rows.termRow("acme", "calm", 1, 0, 1, 10))).toBe("MODEL_MISMATCH");
  });
});

describe("the audit", () => {
  const change = sql`UPDATE vectors SET description = 'x'`;
  test("has an entry for every change, in the chain of the tenant that changed", async () => {
    expect(await tryOut("acme", change)).toBe("AUDIT_MISSING");
    expect(
      await tryOut("acme", change, sql`SELECT set_config('persona.tenant', 'rival', true)`, rows.auditEntry("rival")),
    ).toBe("AUDIT_MISSING");
    const elsewhere = [sql`SELECT set_config('persona.tenant', 'platform', true)`, rows.auditEntry("platform")];
    expect(await tryOut("acme", change, ...elsewhere, sql`SELECT set_config('persona.tenant', 'acme', true)`)).toBe(
      "AUDIT_MISSING",
    );
    expect(
      await tryOut("acme", change, sql`INSERT INTO audit (tenant, chain, payload) VALUES ('acme', 'READS', '{}')`),
    ).toBe("AUDIT_MISSING");
    expect(await tryOut("platform", sql`UPDATE models SET display_name = 'x'`)).toBe("AUDIT_MISSING");
    await act("acme", change);
    // An entry of an earlier transaction does not count.
    expect(await tryOut("acme", change)).toBe("AUDIT_MISSING");
  });

  test("links its entries itself, whatever the writer says, and a verifier finds the chain whole", async () => {
    await act(
      "acme",
      sql`INSERT INTO audit (tenant, chain, payload, sequence, previous_hash, hash)
      VALUES ('acme', 'CHANGES', '{"actor":"eve"}', 999, ${"0".repeat(64)}, ${"0".repeat(64)})`,
    );
    const entries = (await read(
      "acme",
      sql`SELECT sequence, payload, previous_hash, hash FROM audit
      WHERE chain = 'CHANGES' ORDER BY sequence`,
    )) as { sequence: bigint; payload: string; previous_hash: string; hash: string }[];
    let previous = "0".repeat(64);
    for (const [i, entry] of entries.entries()) {
      const hash = createHash("sha256")
        .update(`${i + 1}\n${previous}\n${entry.payload}`)
        .digest("hex");
      expect(entry).toMatchObject({ sequence: BigInt(i + 1), previous_hash: previous, hash });
      previous = hash;
    }
    expect(await read("acme", sql`SELECT hash, sequence FROM audit_heads WHERE chain = 'CHANGES'`)).toEqual([
      { hash: previous, sequence: BigInt(entries.length) },
    ]);
  });

  test("refuses what readers could read in two ways", async () => {
    for (const payload of ["[]", '{"a":1,"a":2}', "no json", '"x"']) {
      expect(await refusal("acme", rows.auditEntry("acme", payload)), payload).toMatch(/audit_payload_check|22P02/);
    }
  });

  test("does not lend its triggers: a temporary table cannot move the heads or stand in for entries", async () => {
    expect(await refusal("acme", sql`CREATE TEMPORARY TABLE borrowed (tenant text)`)).toBe("42501");
    // Where the operator forgot to take temporary tables away, the functions are still not the service's to use.
    await sql`GRANT TEMPORARY ON DATABASE ${sql.id(database.service.pool.options.database ?? "")} TO persona_service`.execute(
      database.owner.db,
    );
    for (const trigger of ["link_audit", "require_audit"]) {
      const borrow = [
        sql`CREATE TEMPORARY TABLE borrowed (tenant text, chain text, payload text, sequence bigint, previous_hash text, hash text)`,
        sql`CREATE TRIGGER borrowed BEFORE INSERT ON borrowed FOR EACH ROW EXECUTE FUNCTION ${sql.id(trigger)}()`,
      ];
      expect(await refusal("acme", ...borrow)).toBe("42501");
    }
    expect(await refusal("acme", sql`UPDATE audit_heads SET sequence = 0`)).toBe("42501");
  });
});

describe("revisions", () => {
  const take = sql`UPDATE revision_counter SET revision = revision + 1`;
  const change = (revision: RawBuilder<unknown>) =>
    sql`INSERT INTO changes (revision, part, tenant, body) VALUES (${revision}, 0, 'acme', '\\x00')`;
  const current = sql`(SELECT revision FROM revision_counter)`;

  test("are taken one by one, and changes bear the one that their transaction took", async () => {
    expect(await refusal("acme", take, change(current))).toBe("accepted");
    expect(await refusal("acme", sql`UPDATE revision_counter SET revision = revision + 2`)).toBe("REVISION_ORDER");
    await act("acme", take, change(current));
    expect(await refusal("acme", sql`UPDATE revision_counter SET revision = revision - 1`)).toBe("REVISION_ORDER");
    expect(await refusal("acme", change(current))).toBe("REVISION_ORDER");
    expect(await refusal("acme", take, change(sql`(SELECT revision - 1 FROM revision_counter)`))).toBe(
      "REVISION_ORDER",
    );
    const late = sql`INSERT INTO revocations (tenant, digest, revision, reason, revoked_by)
      VALUES ('acme', ${digestOf(3)}, ${current}, 'x', 'bob')`;
    expect(await refusal("acme", late)).toBe("REVISION_ORDER");
    expect(await refusal("acme", sql`DELETE FROM changes`)).toBe("42501");
    expect(await refusal("acme", sql`UPDATE revision_counter SET compacted = 0`)).toBe("42501");
  });

  test("are compacted up to the mark that watchers see, which goes forward only", async () => {
    await act("acme", take, change(current));
    const watch = async (...statements: RawBuilder<unknown>[]) =>
      refusalOf(() => actAs(database.watch, "", statements, { audited: false }));
    expect(await watch(sql`DELETE FROM changes`)).toBe("HISTORY_IMMUTABLE");
    expect(await watch(sql`UPDATE revision_counter SET compacted = revision + 1`)).toBe("revision_counter_check");
    expect(
      await watch(sql`UPDATE revision_counter SET compacted = revision`, sql`DELETE FROM changes`),
    ).toBeUndefined();
    expect(await watch(sql`UPDATE revision_counter SET compacted = 0`)).toBeUndefined();
    const { rows: found } = await sql`SELECT revision = compacted AS gone FROM revision_counter`.execute(
      database.watch.db,
    );
    expect(found).toEqual([{ gone: true }]);
    expect(await watch(sql`UPDATE revision_counter SET revision = 0`)).toBe("42501");
  });
});
