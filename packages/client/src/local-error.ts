import { status } from "@grpc/grpc-js";

/** Why something failed before or after a call, on this side of the wire, and the code it counts as. Stable. */
export const LOCAL_REASONS = {
  /** A file or directory that was named is not there. */
  FILE_NOT_FOUND: status.NOT_FOUND,
  /** Over the size that this kind of file may have. */
  FILE_TOO_LARGE: status.INVALID_ARGUMENT,
  /** Not what its format asks for; the message names the field. */
  FILE_INVALID: status.INVALID_ARGUMENT,
  /** The output exists, and replacing it was not asked for. */
  FILE_EXISTS: status.ALREADY_EXISTS,
  /** No token was given, and there are no development keys to make one with. */
  TOKEN_MISSING: status.UNAUTHENTICATED,
  /** A model package is not what it must be; the checks that failed are named. */
  VERIFICATION_FAILED: status.DATA_LOSS,
  /** No version's digest begins with the digits that were given. */
  VERSION_NOT_FOUND: status.NOT_FOUND,
  /** The digests of several versions do. */
  VERSION_AMBIGUOUS: status.INVALID_ARGUMENT,
  /** A change is made, and connected workers did not follow in the time that was given. */
  WORKERS_BEHIND: status.DEADLINE_EXCEEDED,
  /** An export of the audit is not what was written; the first bad entry is named. */
  AUDIT_BROKEN: status.DATA_LOSS,
  /** The server's answer breaks the protocol: a stream without its end, a tensor of another shape. */
  RESPONSE_INVALID: status.INTERNAL,
} as const;

export type LocalReason = keyof typeof LOCAL_REASONS;

/** A failure on this side of the wire, told in the words of the other: a gRPC code and a stable reason. */
export class LocalError extends Error {
  override readonly name = "LocalError";
  readonly reason: LocalReason;

  constructor(reason: LocalReason, message: string, options?: ErrorOptions) {
    super(message, options);
    this.reason = reason;
  }

  get code(): status {
    return LOCAL_REASONS[this.reason];
  }
}
