import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create } from "@bufbuild/protobuf";
import {
  type ExportReport,
  encodeExportLine,
  generateAuditKey,
  readSigningKey,
  verifyExport,
} from "@persona-mesh/audit";
import { ExportAuditRequestSchema, ExportAuditResponseSchema } from "@persona-mesh/protocol/registry";
import { type CallContext, createLogger } from "@persona-mesh/service";
import { Transactor } from "../../database/transaction.ts";
import type { Registry } from "../../registry.ts";
import { actAs, addTenants, auditEntry } from "../../testing/governed-rows.ts";
import { openTestDatabase, type TestDatabase } from "../../testing/test-database.ts";
import { AuditRoots, type AuditRootsOptions } from "../audit-roots.ts";
import { BatchedReadAudit } from "../batched-read-audit.ts";
import { exportAudit } from "../export-audit.ts";

/** The audit of a registry on a real database, with the tenants acme and globex. */
export interface TestAudit {
  readonly database: TestDatabase;
  readonly folder: string;
  readonly roots: AuditRoots;
  readonly registry: Registry;
  /** Log lines so far. */
  readonly log: Record<string, unknown>[];
  /** One more signer, with a key and a file of its own where nothing else is said. Signs when asked. */
  replica(options?: Partial<AuditRootsOptions>): Promise<AuditRoots>;
  /** Write entries to the chain CHANGES of a tenant. */
  write(tenant: string, count?: number): Promise<void>;
  export(tenant: string): Promise<string[]>;
  /** Verify an export of acme made now, under the keys and against the roots that are kept outside. */
  verify(): Promise<ExportReport>;
  /** Lines of the file of roots. */
  outside(file?: string): Promise<string[]>;
  close(): Promise<void>;
}

/** A signer that signs when it is asked, not by itself. */
const WHEN_ASKED = { intervalMs: 3_600_000 };

export async function openTestAudit(): Promise<TestAudit> {
  await using opened = new AsyncDisposableStack();
  const folder = await mkdtemp(join(tmpdir(), "persona-audit-"));
  opened.defer(() => rm(folder, { recursive: true, force: true }));
  const database = await openTestDatabase();
  opened.defer(database.close);
  const lines: Record<string, unknown>[] = [];
  const log = createLogger("test-audit", "debug", { write: (line) => void lines.push(JSON.parse(line)) });
  const key = readSigningKey(generateAuditKey());
  const rootsFile = join(folder, "roots.jsonl");
  const replicas: AuditRoots[] = [];
  opened.defer(async () => {
    for (const made of replicas.toReversed()) await made[Symbol.asyncDispose]();
  });
  const replica = async (options: Partial<AuditRootsOptions> = {}) => {
    const made = await AuditRoots.open({
      db: database.auditor.db,
      key: readSigningKey(generateAuditKey()),
      rootsFile: join(folder, `roots-${replicas.length}.jsonl`),
      log,
      ...WHEN_ASKED,
      ...options,
    });
    replicas.push(made);
    return made;
  };
  await addTenants(database.service, "acme", "globex");
  const roots = await replica({ key, rootsFile });
  const readAudit = opened.use(new BatchedReadAudit(database.service.db, log));
  const registry: Registry = {
    transactor: new Transactor(database.service.db),
    watchDatabase: database.watch.db,
    auditDatabase: database.auditor.db,
    readAudit,
    auditRoots: roots,
    log,
  };
  let written = 0;
  const exportLines = async (tenant: string) => {
    const request = create(ExportAuditRequestSchema, { parent: `tenants/${tenant}` });
    const items = await Array.fromAsync(exportAudit(registry, request, callOf(tenant)));
    return items.map((item) => encodeExportLine(create(ExportAuditResponseSchema, item)));
  };
  const outside = async (file = rootsFile) => (await readFile(file, "utf8")).split("\n").filter((line) => line !== "");
  const resources = opened.move();
  return {
    database,
    folder,
    roots,
    registry,
    log: lines,
    replica,
    write: async (tenant, count = 1) => {
      for (let n = 0; n < count; n++) {
        const payload = JSON.stringify({ action: "Test", actor: "test", n: written++, resource: `tenants/${tenant}` });
        await actAs(database.service, tenant, [auditEntry(tenant, payload)], { audited: false });
      }
    },
    export: exportLines,
    verify: async () =>
      verifyExport(await exportLines("acme"), { tenant: "acme", trustedKeys: [key], trustedRoots: await outside() }),
    outside,
    close: () => resources.disposeAsync(),
  };
}

/** A call of an auditor of a tenant. */
export function callOf(tenant: string): CallContext {
  const log = createLogger("test-call", "silent");
  return {
    method: "/persona.registry.v1.AuditService/Test",
    signal: new AbortController().signal,
    deadline: Number.POSITIVE_INFINITY,
    caller: { subject: "auditor", tenant, roles: new Set(["approver"]) },
    requestId: "call-1",
    log,
    metadata: undefined as never,
    annotate: () => {},
    record: () => {},
  };
}
