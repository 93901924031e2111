import type { Metrics } from "@persona-mesh/service";
import type { AuditRoots } from "./audit-roots.ts";
import type { BatchedReadAudit } from "./batched-read-audit.ts";

/** What the audit tells of itself, read when somebody asks. */
export function observeAudit(
  { meter }: Metrics,
  { reads, roots }: { readonly reads: BatchedReadAudit; readonly roots: AuditRoots },
): void {
  meter
    .createObservableGauge("persona.registry.audit.signing", {
      description: "Whether the last try to sign the audit succeeded: 0 calls for somebody at once",
    })
    .addCallback((result) => result.observe(roots.state.kind === "signing" ? 1 : 0));
  meter
    .createObservableGauge("persona.registry.audit.root", { description: "Newest root that this replica has seen" })
    .addCallback((result) => result.observe(Number(roots.newest)));
  meter
    .createObservableGauge("persona.registry.audit.reads.waiting", {
      description: "Reads of vector bytes that wait to be written down",
      unit: "{read}",
    })
    .addCallback((result) => result.observe(reads.waiting));
}
