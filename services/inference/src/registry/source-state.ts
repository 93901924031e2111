import { WorkerState } from "@persona-mesh/protocol/registry";
import type { Problem } from "./problem.ts";

/**
 * How a worker stands to the registry.
 *
 * - `NOT_READY`: it has never had a whole picture, and serves nothing
 * - `READY`: everything up to `revision` is in force
 * - `STALE`: the registry is out of reach; what was last known is served, within each tenant's limit
 * - `ERROR`: the registry is there, and some of what it says could not be taken on; all else is in force
 */
export type SourceState =
  | { readonly kind: "NOT_READY" }
  | { readonly kind: "READY"; readonly revision: bigint }
  | { readonly kind: "STALE"; readonly revision: bigint; readonly problems: readonly Problem[] }
  | { readonly kind: "ERROR"; readonly revision: bigint; readonly problems: readonly Problem[] };

export const WORKER_STATES: Readonly<Record<SourceState["kind"], WorkerState>> = {
  NOT_READY: WorkerState.NOT_READY,
  READY: WorkerState.READY,
  STALE: WorkerState.STALE,
  ERROR: WorkerState.ERROR,
};

export function problemsOf(state: SourceState): readonly Problem[] {
  return "problems" in state ? state.problems : [];
}
