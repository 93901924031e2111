import { readFile } from "node:fs/promises";
import { encodeExportLine, verifyExport } from "@persona-mesh/audit";
import { AuditService } from "@persona-mesh/protocol/registry";
import { connectDatabase, type DatabasePool } from "../../../services/vector-registry/src/database/connect.ts";
import { checkRegisters } from "./check-register.ts";
import { checkWatch } from "./check-watch.ts";
import type { Acknowledged, Watched } from "./history.ts";
import { type Log, MODEL, TENANTS } from "./operations.ts";
import type { Replica, Stage } from "./stage.ts";

/** Looks behind the registry, as the superuser. */
type Database = DatabasePool["pool"];

/** What was found after the storm. */
export interface Findings {
  readonly lost: readonly string[];
  readonly audit: readonly string[];
  readonly watch: readonly string[];
  readonly registers: readonly string[];
}

/** Look at everything, in the registry and behind it. */
export async function findingsOf(stage: Stage, log: Log, watched: readonly Watched[]): Promise<Findings> {
  const opened = connectDatabase({ url: stage.ownerUrl, maxConnections: 1 });
  const database = opened.pool;
  try {
    await database.query("SET search_path = registry");
    const entries = await readEntries(stage);
    const committed = await committedRevisions(database);
    return {
      lost: [...lostWrites(log.acknowledged, entries), ...(await lostRows(database, log.acknowledged))],
      audit: [...entries.problems, ...(await unmatchedRows(database))],
      watch: watched.flatMap((it) => checkWatch(it, committed)),
      registers: checkRegisters(log.registers).map(({ key, what }) => `${key}: ${what}`),
    };
  } finally {
    await opened.close();
  }
}

interface Entries {
  /** How often each request is in a tenant's chain, by `tenant action requestId`. */
  readonly requests: ReadonlyMap<string, number>;
  /** What verification of the exports found. */
  readonly problems: readonly string[];
}

async function readEntries(stage: Stage): Promise<Entries> {
  const requests = new Map<string, number>();
  const problems: string[] = [];
  const outside = (await readFile(stage.rootsFile(0), "utf8")).split("\n").filter(Boolean);
  for (const tenant of TENANTS) {
    const lines: string[] = [];
    const client = await stage.client(AuditService, stage.replicas[0] as Replica, {
      subject: "carol",
      tenant,
      roles: ["approver"],
    });
    for await (const item of client.exportAudit({ parent: `tenants/${tenant}` })) {
      lines.push(encodeExportLine(item));
      if (item.item.case !== "entry") continue;
      const { action, requestId } = JSON.parse(item.item.value.payload) as { action?: string; requestId?: string };
      if (requestId === undefined) continue;
      const key = `${tenant} ${action} ${requestId}`;
      requests.set(key, (requests.get(key) ?? 0) + 1);
    }
    const report = await verifyExport(lines, { tenant, trustedRoots: outside });
    problems.push(...report.problems.map((problem) => `${tenant}: ${JSON.stringify(problem, bigintAsText)}`));
  }
  return { requests, problems };
}

/** Every acknowledged write has its one entry. */
function lostWrites(acknowledged: readonly Acknowledged[], { requests }: Entries): string[] {
  return acknowledged.flatMap(({ tenant, action, requestId, what }) => {
    // What was so already is written down as such.
    const times = [action, `${action}Again`].reduce(
      (sum, name) => sum + (requests.get(`${tenant} ${name} ${requestId}`) ?? 0),
      0,
    );
    return times === 1 ? [] : [`${action} of ${what} is ${times} times in the audit`];
  });
}

/** Acknowledged versions and approvals are there by name. */
async function lostRows(database: Database, acknowledged: readonly Acknowledged[]): Promise<string[]> {
  const names = async (text: string) =>
    new Set((await database.query<{ name: string }>(text)).rows.map(({ name }) => name));
  const present: Record<string, ReadonlySet<string>> = {
    PublishVersion: await names(
      "SELECT format('tenants/%s/vectors/%s/versions/%s', tenant, vector, digest) AS name FROM versions",
    ),
    CreateApproval: await names("SELECT format('tenants/%s/approvals/%s', tenant, approval) AS name FROM approvals"),
    CreatePersona: await names("SELECT format('tenants/%s/personas/%s', tenant, persona) AS name FROM personas"),
    RevokeVersion: await names(
      `SELECT format('tenants/%s/vectors/%s/versions/%s', v.tenant, v.vector, v.digest) AS name
       FROM revocations r JOIN versions v USING (tenant, digest)`,
    ),
  };
  return acknowledged
    .filter(({ action, what }) => present[action]?.has(what) === false)
    .map(({ action, what }) => `${action} was acknowledged and ${what} is not there`);
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
