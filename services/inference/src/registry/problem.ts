import type { Reason } from "@persona-mesh/service";

/** Why a persona of the registry cannot be served here: a reason as errors have it, or one that only workers meet. */
export type ProblemReason =
  | Reason
  /** The registry has no bytes for a version, or they cannot be had. */
  | "VERSION_BYTES_MISSING"
  /** The bytes that came are not those that the digest names. */
  | "VERSION_DIGEST_MISMATCH"
  /** The same terms compose to something else here than at the registry. */
  | "COMPOSITION_DIFFERS"
  /** Revocations could not be written to the disk: they act, and a restart without the registry serves nothing. */
  | "REVOCATIONS_NOT_DURABLE";

/** Something that could not be taken on. */
export interface Problem {
  readonly tenant: string;
  /** Name of a persona's revision or of a version. */
  readonly resource: string;
  readonly reason: ProblemReason;
  readonly message: string;
}

/** Thrown where a revision cannot be loaded. */
export class ProblemError extends Error {
  override readonly name = "ProblemError";
  readonly reason: ProblemReason;

  constructor(reason: ProblemReason, message: string) {
    super(message);
    this.reason = reason;
  }
}

/** Another try may succeed though nothing changes. */
export function mayPass({ reason }: Problem): boolean {
  return reason === "VERSION_BYTES_MISSING" || reason === "VERSION_DIGEST_MISMATCH";
}
