import { ServiceError } from "@persona-mesh/service";

/** The audit in the database does not continue what was signed. */
export function rootsDiverged(what: string, metadata: Record<string, string> = {}): ServiceError {
  return new ServiceError("AUDIT_ROOTS_DIVERGED", what, { metadata });
}
