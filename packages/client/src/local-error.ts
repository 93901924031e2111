import { status } from "@grpc/grpc-js";

/** Why something failed before or after a call, on this side of the wire. Stable; docs/cli.md lists them. */
export type LocalReason =
  /** A file or directory that was named is not there. */
  | "FILE_NOT_FOUND"
  /** Over the size that this kind of file may have. */
  | "FILE_TOO_LARGE"
  /** Not what its format asks for; the message names the field. */
  | "FILE_INVALID"
  /** The output exists, and `--overwrite` was not given. */
  | "FILE_EXISTS"
  /** No token was given and the data folder has no development keys. */
  | "TOKEN_MISSING"
  /** The server's answer breaks the protocol: a stream without its end, a tensor of another shape. */
  | "RESPONSE_INVALID";

const CODES: Readonly<Record<LocalReason, status>> = {
  FILE_NOT_FOUND: status.NOT_FOUND,
  FILE_TOO_LARGE: status.INVALID_ARGUMENT,
  FILE_INVALID: status.INVALID_ARGUMENT,
  FILE_EXISTS: status.ALREADY_EXISTS,
  TOKEN_MISSING: status.UNAUTHENTICATED,
  RESPONSE_INVALID: status.INTERNAL,
};

/** A failure on this side of the wire, told in the words of the other: a gRPC code and a stable reason. */
export class LocalError extends Error {
  override readonly name = "LocalError";
  readonly reason: LocalReason;

  constructor(reason: LocalReason, message: string, options?: ErrorOptions) {
    super(message, options);
    this.reason = reason;
  }

  get code(): status {
    return CODES[this.reason];
  }
}
