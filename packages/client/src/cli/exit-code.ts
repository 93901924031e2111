import { status } from "@grpc/grpc-js";

/** What the process ends with. Stable: scripts match on these, and docs/cli.md lists them. */
export const ExitCode = {
  OK: 0,
  /** Anything without a number of its own: a bug, a broken file system, INTERNAL. */
  FAILURE: 1,
  /** The command line itself is wrong; nothing was tried. */
  USAGE: 2,
  /** No token, a bad one, or not enough rights. */
  DENIED: 3,
  NOT_FOUND: 4,
  /** Understood and refused: the same again is refused again. */
  INVALID: 5,
  /** Nobody there, too busy, or too slow: the same again may work. */
  UNAVAILABLE: 6,
  /** 128 + SIGINT. */
  INTERRUPTED: 130,
  /** 128 + SIGPIPE: the reader of our output went away. */
  BROKEN_PIPE: 141,
  /** 128 + SIGTERM. */
  TERMINATED: 143,
} as const;

export type ExitCode = (typeof ExitCode)[keyof typeof ExitCode];

/** The exit code of a gRPC status. */
export function exitCodeOfStatus(code: status): ExitCode {
  switch (code) {
    case status.OK:
      return ExitCode.OK;
    case status.UNAUTHENTICATED:
    case status.PERMISSION_DENIED:
      return ExitCode.DENIED;
    case status.NOT_FOUND:
      return ExitCode.NOT_FOUND;
    case status.INVALID_ARGUMENT:
    case status.FAILED_PRECONDITION:
    case status.OUT_OF_RANGE:
    case status.ALREADY_EXISTS:
    case status.DATA_LOSS:
      return ExitCode.INVALID;
    case status.UNAVAILABLE:
    case status.DEADLINE_EXCEEDED:
    case status.RESOURCE_EXHAUSTED:
    case status.ABORTED:
      return ExitCode.UNAVAILABLE;
    default:
      return ExitCode.FAILURE;
  }
}
