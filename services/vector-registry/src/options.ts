import { option, SERVICE_OPTIONS, type Values, withDefaults } from "@persona-mesh/service";
import { z } from "zod";

/** What the registry can be told, beside what every service can. */
export const REGISTRY_OPTIONS = {
  ...withDefaults(SERVICE_OPTIONS, { grpcPort: 7300, managementPort: 7301, devTls: true }),
  databaseUrl: option(z.string().min(1).optional(), {
    default: undefined,
    secret: true,
    commonVariable: "DATABASE_URL",
    doc: "PostgreSQL, as postgresql://USER:PASSWORD@HOST:PORT/DATABASE. Unset in development: a server of the registry's own in dataDir/postgres.",
  }),
  migrationDatabaseUrl: option(z.string().min(1).optional(), {
    default: undefined,
    secret: true,
    commonVariable: "MIGRATION_DATABASE_URL",
    doc: "The same database for a login that owns the schema: migrations are applied at the start. Unset: they are only checked.",
  }),
  databaseConnections: option(z.int().min(1).max(1000), {
    default: 10,
    doc: "Most connections for calls; watching and signing take a few more.",
  }),
  allowPlainTextDatabase: option(z.boolean(), {
    default: false,
    doc: "Accept sslmode=disable in databaseUrl to another machine, for a network that encrypts by itself.",
  }),
  retentionSeconds: option(z.int().min(60).max(2_592_000), {
    default: 86_400,
    unit: "s",
    doc: "How long changes are kept for workers that resume; one that was away longer gets a snapshot.",
  }),
  retentionChanges: option(z.int().min(100).max(10_000_000), {
    default: 10_000,
    doc: "So many of the newest changes are kept, however old.",
  }),
  auditKeyFile: option(z.string().min(1).optional(), {
    default: undefined,
    doc: "Ed25519 key that audit roots are signed with, PKCS #8 PEM, the same for all replicas. Unset: one is made in dataDir/audit-key.pem.",
  }),
  auditRootsFile: option(z.string().min(1).optional(), {
    default: undefined,
    doc: "Where signed roots are kept outside the database, a line each; best where the database's administrators cannot write. Unset: dataDir/audit-roots.jsonl.",
  }),
  auditRootSeconds: option(z.number().min(0.01).max(3600), {
    default: 1,
    unit: "s",
    doc: "Between two signatures under the audit: so long can its newest entries be deleted without a trace.",
  }),
  acceptLostAuditRoots: option(z.int().min(1).optional(), {
    default: undefined,
    doc: "Start although the database lost the audit roots up to this number, the newest in auditRootsFile: for a backup that was restored on purpose. The file is set aside.",
  }),
};

export type RegistryValues = Values<typeof REGISTRY_OPTIONS>;
