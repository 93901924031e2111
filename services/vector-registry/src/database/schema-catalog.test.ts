import { readFileSync } from "node:fs";
import { isReason } from "@persona-mesh/service";
import { sql } from "kysely";
import { afterAll, beforeAll, expect, test } from "vitest";
import { openTestDatabase, type TestDatabase } from "../testing/test-database.ts";
import { DATABASE_ROLES } from "./connect.ts";

let database: TestDatabase;

beforeAll(async () => {
  database = await openTestDatabase();
});
afterAll(() => database.close());

/** The first column of a query over the catalogs, as the superuser. */
async function list(query: string): Promise<unknown[]> {
  const { rows } = await sql.raw<Record<string, unknown>>(query).execute(database.owner.db);
  return rows.map((row) => Object.values(row)[0]);
}

const TABLES = "pg_class c WHERE c.relnamespace = 'registry'::regnamespace AND c.relkind IN ('r', 'p')";
const FUNCTIONS = "pg_proc p WHERE p.pronamespace = 'registry'::regnamespace";
const ROLES = DATABASE_ROLES.map((role) => `'${role}'`).join();

test("every table is under row-level security that binds its owner too, and has a policy", async () => {
  expect((await list(`SELECT relname FROM ${TABLES}`)).length).toBeGreaterThan(20);
  expect(await list(`SELECT relname FROM ${TABLES} AND NOT (relrowsecurity AND relforcerowsecurity)`)).toEqual([]);
  expect(
    await list(`SELECT relname FROM ${TABLES} AND NOT EXISTS (SELECT FROM pg_policy WHERE polrelid = c.oid)`),
  ).toEqual([]);
  expect(await list(`SELECT polname FROM pg_policy WHERE 0 = ANY (polroles)`)).toEqual([]);
});

test("nothing but tables: no view, sequence or foreign table goes around them", async () => {
  const others =
    "SELECT relname FROM pg_class WHERE relnamespace = 'registry'::regnamespace AND relkind NOT IN ('r', 'i')";
  expect(await list(others)).toEqual([]);
});

test("every table that has a tenant shows the service no other tenant's rows", async () => {
  const policies = await list(`SELECT DISTINCT c.relname FROM ${TABLES} AND EXISTS (
    SELECT FROM pg_attribute WHERE attrelid = c.oid AND attname = 'tenant')
    AND has_table_privilege('persona_service', c.oid, 'SELECT')
    AND EXISTS (SELECT FROM pg_policy WHERE polrelid = c.oid AND 'persona_service'::regrole = ANY (polroles)
      AND polcmd IN ('*', 'r') AND pg_get_expr(polqual, polrelid) <> '((tenant)::text = current_tenant())'
      AND c.relname <> 'tenants')`);
  expect(policies).toEqual([]);
});

test("the owner owns everything, and the roles own nothing and have no attribute that would lift them", async () => {
  expect(await list(`SELECT relname FROM ${TABLES} AND relowner <> 'persona_owner'::regrole`)).toEqual([]);
  expect(await list(`SELECT proname FROM ${FUNCTIONS} AND proowner <> 'persona_owner'::regrole`)).toEqual([]);
  expect(
    await list(`SELECT DISTINCT refobjid::regrole::text FROM pg_shdepend
      WHERE refclassid = 'pg_authid'::regclass AND deptype = 'o'
        AND refobjid::regrole::text IN (${ROLES}, 'persona_login')`),
  ).toEqual([]);
  expect(
    await list(`SELECT rolname FROM pg_roles WHERE rolname IN (${ROLES}, 'persona_owner')
      AND (rolsuper OR rolbypassrls OR rolcreaterole OR rolcreatedb OR rolreplication OR rolcanlogin)`),
  ).toEqual([]);
  // The login has what it takes by SET ROLE, and nothing by itself; the three are in no other role.
  expect(
    await list(`SELECT roleid::regrole::text FROM pg_auth_members WHERE member = 'persona_login'::regrole
      AND set_option AND NOT inherit_option AND NOT admin_option ORDER BY 1`),
  ).toEqual([...DATABASE_ROLES].sort());
  expect(await list(`SELECT roleid::regrole FROM pg_auth_members WHERE member::regrole::text IN (${ROLES})`)).toEqual(
    [],
  );
});

test("no privilege on tables or functions is everybody's", async () => {
  const grants = (catalog: string, acl: string) =>
    list(`SELECT ${catalog}.oid::text FROM ${catalog}, aclexplode(${acl}) a WHERE a.grantee = 0
      AND ${catalog === "pg_proc" ? "pronamespace" : "relnamespace"} = 'registry'::regnamespace`);
  expect(await grants("pg_class", "relacl")).toEqual([]);
  expect(await grants("pg_proc", "coalesce(proacl, acldefault('f', proowner))")).toEqual([]);
  expect(await list("SELECT has_schema_privilege('persona_service', 'registry', 'CREATE')")).toEqual([false]);
  expect(await list("SELECT has_database_privilege('persona_service', current_database(), 'TEMPORARY')")).toEqual([
    false,
  ]);
});

test("every function has a fixed search path that ends in temporary tables, so that none of them can stand in", async () => {
  const path = "SELECT setting FROM unnest(p.proconfig) setting WHERE setting LIKE 'search_path=%'";
  const paths = await list(`SELECT DISTINCT (${path}) FROM ${FUNCTIONS}`);
  expect(paths.sort()).toEqual(["search_path=pg_catalog", "search_path=registry, pg_temp"]);
  expect(await list(`SELECT proname FROM ${FUNCTIONS} AND prosecdef ORDER BY 1`)).toEqual([
    "link_audit",
    "model_is_used",
    "require_audit",
  ]);
  expect(
    await list(
      `SELECT proname FROM ${FUNCTIONS} AND prosecdef AND has_function_privilege('persona_service', p.oid, 'EXECUTE')`,
    ),
  ).toEqual(["model_is_used"]);
});

test("the service may write only where it has to, and never a part of a key", async () => {
  const may = (privilege: string, role: string) =>
    list(`SELECT relname FROM ${TABLES} AND has_any_column_privilege('${role}', c.oid, '${privilege}') ORDER BY 1`);
  const deletable = (role: string) =>
    list(`SELECT relname FROM ${TABLES} AND has_table_privilege('${role}', c.oid, 'DELETE') ORDER BY 1`);
  expect(await may("UPDATE", "persona_service")).toEqual([
    "aliases",
    "approvals",
    "break_glass_uses",
    "models",
    "personas",
    "revision_counter",
    "tenants",
    "vectors",
  ]);
  expect(await deletable("persona_service")).toEqual(["aliases"]);
  expect(await may("UPDATE", "persona_watch")).toEqual(["revision_counter", "workers"]);
  expect(await may("INSERT", "persona_watch")).toEqual(["workers"]);
  expect(await deletable("persona_watch")).toEqual(["changes", "requests", "workers"]);
  expect(await may("UPDATE", "persona_auditor")).toEqual([]);
  expect(await may("INSERT", "persona_auditor")).toEqual(["audit_keys", "audit_root_heads", "audit_roots"]);
  expect(await deletable("persona_auditor")).toEqual([]);
  expect(
    await list(`SELECT relname || '.' || attname FROM ${TABLES.replace(" WHERE", ", pg_attribute a WHERE a.attrelid = c.oid AND")}
      AND attnum > 0 AND has_column_privilege('persona_service', c.oid, attnum, 'UPDATE')
      AND EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary AND attnum = ANY (i.indkey))`),
  ).toEqual([]);
  expect(
    await list(`SELECT relname FROM ${TABLES} AND has_table_privilege('persona_service', c.oid, 'TRUNCATE')`),
  ).toEqual([]);
});

test("every table that people govern is audited, and every one that is only written is kept", async () => {
  const having = (trigger: string) =>
    list(`SELECT relname FROM ${TABLES} AND EXISTS (
      SELECT FROM pg_trigger WHERE tgrelid = c.oid AND tgname = '${trigger}' AND tgenabled = 'O') ORDER BY 1`);
  const ungoverned = ["audit", "audit_heads", "audit_keys", "audit_root_heads", "audit_roots", "changes", "requests"];
  const all = (await list(`SELECT relname FROM ${TABLES} ORDER BY 1`)) as string[];
  expect(await having("audited")).toEqual(
    all.filter((table) => ![...ungoverned, "revision_counter", "workers"].includes(table)),
  );
  expect(await having("keep")).toEqual([
    "activations",
    "alias_targets",
    "approvals",
    "audit",
    "audit_keys",
    "audit_root_heads",
    "audit_roots",
    "break_glass_uses",
    "changes",
    "contents",
    "evaluations",
    "persona_revisions",
    "persona_terms",
    "revocations",
    "versions",
  ]);
});

test("every refusal of the schema is a reason for callers, or known to be a defect of the service", () => {
  const text = readFileSync(new URL("../migrations/0001-registry.sql", import.meta.url), "utf8");
  const used = [...text.matchAll(/CONSTRAINT = '(\w+)'|refuse\('(\w+)'\)|CONSTRAINT "(\w+)"/g)].map(
    (m) => m[1] ?? m[2] ?? m[3],
  );
  expect(used.length).toBeGreaterThan(25);
  expect([...new Set(used)].filter((name) => !isReason(name)).sort()).toEqual([
    "APPROVAL_IMMUTABLE",
    "AUDIT_APPEND_ONLY",
    "AUDIT_MISSING",
    "HISTORY_IMMUTABLE",
    "HISTORY_MISSING",
    "MODEL_IMMUTABLE",
    "REVISION_IMMUTABLE",
    "REVISION_ORDER",
    "TENANT_SWITCHED",
    "VERSION_IMMUTABLE",
    "VERSION_INCONSISTENT",
  ]);
});
