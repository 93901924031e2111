import { join } from "node:path";
import {
  ApprovalService,
  AuditService,
  DistributionService,
  ModelService,
  PersonaService,
  TenantService,
  VectorService,
} from "@persona-mesh/protocol/registry";
import {
  bindService,
  createMetrics,
  type Logger,
  type RunningServer,
  requireConfig,
  startServer,
  steeringErrors,
  toServiceError,
} from "@persona-mesh/service";
import { approvalService } from "./approvals/approval-service.ts";
import { observeAudit } from "./audit/audit-metrics.ts";
import { AuditRoots } from "./audit/audit-roots.ts";
import { auditService } from "./audit/audit-service.ts";
import { BatchedReadAudit } from "./audit/batched-read-audit.ts";
import { openSigningKey } from "./audit/signing-key.ts";
import { databaseErrors } from "./database/error-mapping.ts";
import { watchDatabase } from "./database/health.ts";
import { CHANGES_CHANNEL } from "./database/mutation.ts";
import { openDatabase, type RegistryDatabase } from "./database/open-database.ts";
import { Transactor } from "./database/transaction.ts";
import { ChangeFeed } from "./distribution/change-feed.ts";
import { ChangeListener } from "./distribution/change-listener.ts";
import { compactRegularly } from "./distribution/compaction.ts";
import type { Distribution } from "./distribution/distribution.ts";
import { distributionService } from "./distribution/distribution-service.ts";
import { Presence } from "./distribution/presence.ts";
import { ReportWriter } from "./distribution/report-writer.ts";
import { Snapshots } from "./distribution/snapshot.ts";
import { observeRegistry } from "./metrics.ts";
import { modelService } from "./models/model-service.ts";
import type { RegistryValues } from "./options.ts";
import { personaService } from "./personas/persona-service.ts";
import type { Registry } from "./registry.ts";
import { tenantService } from "./tenants/tenant-service.ts";
import { vectorService } from "./vectors/vector-service.ts";

/** A registry that serves. */
export interface RunningRegistry {
  readonly server: RunningServer;
  readonly database: RegistryDatabase;
  /** Drain, end and free everything. Further calls give the same promise. */
  close(): Promise<void>;
}

const ERROR_MAPPERS = [databaseErrors, steeringErrors];

/**
 * Reach the database, open the port.
 *
 * @throws ServiceError with the reason: CONFIG_INVALID, PORT_IN_USE, DATABASE_SCHEMA, DATABASE_UNAVAILABLE,
 *   DATABASE_EMBEDDED_FAILED, AUDIT_ROOTS_DIVERGED
 */
export async function startRegistry(values: RegistryValues, log: Logger): Promise<RunningRegistry> {
  requireConfig(
    values.environment === "development" || values.databaseUrl !== undefined,
    "databaseUrl",
    "production needs a database that others look after: set databaseUrl, or DATABASE_URL",
  );
  try {
    await using started = new AsyncDisposableStack();
    const database = await openRegistryDatabase(values, log);
    started.defer(database.close);
    // Before those who write to the audit, so that it ends after them and signs what they wrote last.
    const auditRoots = started.use(await openAuditRoots(values, database, log));
    const readAudit = started.use(new BatchedReadAudit(database.service.db, log));
    const distribution = await openDistribution(values, { readAudit, log }, database, started);
    const registry: Registry = {
      transactor: new Transactor(database.service.db, (written) => distribution.feed.offer(written)),
      watchDatabase: database.watch.db,
      auditDatabase: database.auditor.db,
      readAudit,
      auditRoots,
      log,
    };
    const health = watchDatabase(database.service.db, {
      onChange: (ready, error) => {
        if (!ready) log.error({ err: error }, "the database does not answer, or takes no writes");
      },
    });
    started.defer(() => health.close());
    const metrics = await createMetrics("vector-registry", log);
    observeRegistry(metrics, database, distribution);
    observeAudit(metrics, { roots: auditRoots, reads: readAudit });
    const server = await startServer({
      name: "vector-registry",
      config: values,
      log,
      metrics,
      services: [
        bindService(TenantService, tenantService(registry)),
        bindService(ModelService, modelService(registry)),
        bindService(VectorService, vectorService(registry)),
        bindService(PersonaService, personaService(registry)),
        bindService(ApprovalService, approvalService(registry)),
        bindService(AuditService, auditService(registry)),
        bindService(DistributionService, distributionService(distribution)),
      ],
      errorMappers: ERROR_MAPPERS,
      isFit: () => health.ready,
    });
    const resources = started.move();
    const end = async () => {
      // Watches first: they would hold the drain up, and their workers find another replica meanwhile.
      const feedClosed = distribution.feed[Symbol.asyncDispose]();
      await server.close();
      await feedClosed;
      await resources.disposeAsync();
    };
    let closing: Promise<void> | undefined;
    return {
      server,
      database,
      close: () => {
        closing ??= end();
        return closing;
      },
    };
  } catch (error) {
    throw toServiceError(error, ERROR_MAPPERS);
  }
}

async function openRegistryDatabase(values: RegistryValues, log: Logger): Promise<RegistryDatabase> {
  const { databaseUrl, migrationDatabaseUrl } = values;
  const database = await openDatabase({
    ...(databaseUrl === undefined ? {} : { url: databaseUrl }),
    ...(migrationDatabaseUrl === undefined ? {} : { migrationUrl: migrationDatabaseUrl }),
    folder: join(values.dataDir, "postgres"),
    allowPlainText: values.allowPlainTextDatabase,
    maxConnections: values.databaseConnections,
    onConnectionLost: (error) => log.warn({ err: error }, "a connection to the database was lost"),
  });
  log.info(
    { database: database.shown, embedded: database.embedded !== undefined, migrated: database.migrated },
    "database open",
  );
  return database;
}

async function openAuditRoots(values: RegistryValues, { auditor }: RegistryDatabase, log: Logger): Promise<AuditRoots> {
  const { acceptLostAuditRoots: lost, auditKeyFile, auditRootSeconds, auditRootsFile, dataDir } = values;
  const create = auditKeyFile === undefined;
  return AuditRoots.open({
    db: auditor.db,
    key: await openSigningKey(auditKeyFile ?? join(dataDir, "audit-key.pem"), { create }),
    rootsFile: auditRootsFile ?? join(dataDir, "audit-roots.jsonl"),
    intervalMs: auditRootSeconds * 1000,
    acceptLostRoots: lost === undefined ? undefined : BigInt(lost),
    log,
  });
}

/** What tells workers; closed with `resources`. */
async function openDistribution(
  values: RegistryValues,
  { readAudit, log }: Pick<Registry, "readAudit" | "log">,
  { watch: { db, pool } }: RegistryDatabase,
  resources: AsyncDisposableStack,
): Promise<Distribution> {
  const listener = resources.use(new ChangeListener(pool, CHANGES_CHANNEL, log));
  const feed = resources.use(await ChangeFeed.open(db, listener, log));
  const presence = resources.use(new Presence(db, log));
  const reports = resources.use(new ReportWriter(db));
  const retention = { seconds: values.retentionSeconds, changes: values.retentionChanges };
  resources.use(compactRegularly(db, retention, log));
  return { db, feed, snapshots: new Snapshots(db), presence, reports, readAudit };
}
