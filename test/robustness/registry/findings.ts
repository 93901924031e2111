import { readFile } from "node:fs/promises";
import { encodeExportLine, verifyExport } from "@persona-mesh/audit";
import { AuditService } from "@persona-mesh/protocol/registry";
import { connectDatabase, type DatabasePool } from "../../../services/vector-registry/src/database/connect.ts";
import { checkRegisters } from "./check-register.ts";
import { checkContents, checkRequests, type Kept } from "./check-requests.ts";
import { checkWatch } from "./check-watch.ts";
import type { Watched } from "./history.ts";
import type { Log } from "./operations.ts";
import { MODEL, TENANTS } from "./scene.ts";
import type { Replica, Stage } from "./stage.ts";

/** Looks behind the registry, as the superuser. */
type Database = DatabasePool["pool"];

/** What was found after the storm. */
export interface Findings {
  /** Acknowledged changes that are not there. */
  readonly lost: readonly string[];
  /** Chains that do not verify, changes without entries, entries without changes, or done twice. */
  readonly audit: readonly string[];
  readonly watch: readonly string[];
  readonly registers: readonly string[];
  /** Answers that no fault explains. */
  readonly defects: readonly string[];
}

/** Of the whole audit of a tenant. Milliseconds. */
const EXPORT_TIMEOUT = 120_000;

/** Look at everything, in the registry and behind it. */
export async function findingsOf(stage: Stage, log: Log, watched: readonly Watched[]): Promise<Findings> {
  const opened = connectDatabase({ url: stage.ownerUrl, maxConnections: 1 });
  const database = opened.pool;
  try {
    await database.query("SET search_path = registry");
    const { audited, problems } = await readAudit(stage);
    const kept = { ...audited, rows: await readRows(database) };
    const requests = checkRequests(log.requests, kept);
    const contents = checkContents(log.contents, kept);
    const committed = await committedRevisions(database);
    return {
      lost: [...requests.lost, ...contents.lost],
      audit: [...problems, ...requests.unasked, ...contents.unasked, ...(await unmatchedRows(database))],
      watch: watched.flatMap((it) => checkWatch(it, committed)),
      registers: checkRegisters(log.registers).map(({ key, what }) => `${key}: ${what}`),
      defects: log.defects,
    };
  } finally {
    await opened.close();
  }
}

/** Export every tenant's audit, verify it as anybody could, and look into it. */
async function readAudit(stage: Stage): Promise<{ audited: Omit<Kept, "rows">; problems: string[] }> {
  const changes = new Map<string, string[]>();
  const reads = new Map<string, number>();
  const problems: string[] = [];
  const take = (payload: string) => {
    const entry = JSON.parse(payload) as { action: string; requestId?: string; reads?: { resource: string }[] };
    if (entry.requestId !== undefined)
      changes.set(entry.requestId, [...(changes.get(entry.requestId) ?? []), entry.action]);
    for (const { resource } of entry.reads ?? []) reads.set(resource, (reads.get(resource) ?? 0) + 1);
  };
  for (const tenant of TENANTS) {
    const lines: string[] = [];
    const as = { subject: "carol", tenant, roles: ["approver"] } as const;
    const client = await stage.client(AuditService, stage.replicas[0] as Replica, as);
    for await (const item of client.exportAudit({ parent: `tenants/${tenant}` }, { timeoutMs: EXPORT_TIMEOUT })) {
      lines.push(encodeExportLine(item));
      if (item.item.case === "entry") take(item.item.value.payload);
    }
    // Each replica keeps the roots for itself; what either knows must agree.
    for (const { index } of stage.replicas) {
      const trustedRoots = (await readFile(stage.rootsFile(index), "utf8")).split("\n").filter(Boolean);
      const report = await verifyExport(lines, { tenant, trustedRoots });
      problems.push(
        ...report.problems.map((it) => `${tenant}, roots of replica ${index}: ${JSON.stringify(it, bigintAsText)}`),
      );
    }
  }
  return { audited: { changes, reads }, problems };
}

/** Names of what stands in the tables, as clients are told them. */
async function readRows(database: Database): Promise<Kept["rows"]> {
  const names = async (text: string) =>
    new Set((await database.query<{ name: string }>(text)).rows.map(({ name }) => name));
  const targets = await names(
    "SELECT format('tenants/%s/vectors/%s/aliases/%s@%s=%s', tenant, vector, alias, number, digest) AS name FROM alias_targets",
  );
  return new Map([
    [
      "PublishVersion",
      await names("SELECT format('tenants/%s/vectors/%s/versions/%s', tenant, vector, digest) AS name FROM versions"),
    ],
    [
      "CreateApproval",
      await names("SELECT format('tenants/%s/approvals/%s', tenant, approval) AS name FROM approvals"),
    ],
    ["CreatePersona", await names("SELECT format('tenants/%s/personas/%s', tenant, persona) AS name FROM personas")],
    ["SetAlias", targets],
    ["RollbackAlias", targets],
    [
      "RevokeVersion",
      await names(
        `SELECT format('tenants/%s/vectors/%s/versions/%s', v.tenant, v.vector, v.digest) AS name
         FROM revocations r JOIN versions v USING (tenant, digest)`,
      ),
    ],
  ]);
}

/** Rows that histories have for each kind of entry: as many of one as of the other. */
const PAIRS = [
  ["versions", "PublishVersion"],
  ["approvals", "CreateApproval"],
  ["alias_targets", "SetAlias", "RollbackAlias"],
  ["activations", "ActivatePersona", "DeactivatePersona"],
  ["revocations", "RevokeVersion"],
] as const;

/** Every change has its entry, and every entry its change. */
async function unmatchedRows(database: Database): Promise<string[]> {
  const unmatched: string[] = [];
  for (const tenant of TENANTS) {
    for (const [table, ...actions] of PAIRS) {
      const count = async (text: string, values: unknown[]) =>
        Number((await database.query<{ count: string }>(text, values)).rows[0]?.count);
      const rows = await count(`SELECT count(*) FROM ${table} WHERE tenant = $1`, [tenant]);
      const entries = await count(
        "SELECT count(*) FROM audit WHERE tenant = $1 AND chain = 'CHANGES' AND action = ANY ($2)",
        [tenant, actions],
      );
      if (rows !== entries)
        unmatched.push(`${tenant}: ${rows} rows of ${table}, ${entries} entries of ${actions.join(", ")}`);
    }
  }
  return unmatched;
}

/** Revisions that changed something for the watched model, ascending. */
async function committedRevisions(database: Database): Promise<bigint[]> {
  const { rows } = await database.query<{ revision: string }>(
    "SELECT DISTINCT revision FROM changes WHERE model_checksum IS NULL OR model_checksum = $1 ORDER BY revision",
    [MODEL.checksum],
  );
  return rows.map(({ revision }) => BigInt(revision));
}

function bigintAsText(_: string, value: unknown): unknown {
  return typeof value === "bigint" ? String(value) : value;
}
