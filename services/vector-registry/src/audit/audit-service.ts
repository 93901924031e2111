import type { AuditService } from "@persona-mesh/protocol/registry";
import type { ServiceImplementation } from "@persona-mesh/service";
import type { Registry } from "../registry.ts";
import { exportAudit } from "./export-audit.ts";
import { listAuditEntries } from "./list-entries.ts";
import { auditKeys } from "./root-store.ts";

/** Who did what. */
export function auditService(registry: Registry): ServiceImplementation<typeof AuditService> {
  return {
    listAuditEntries: (request, context) => listAuditEntries(registry, request, context),
    exportAudit: (request, context) => exportAudit(registry, request, context),
    listAuditKeys: async () => ({ keys: await auditKeys(registry.auditDatabase) }),
  };
}
