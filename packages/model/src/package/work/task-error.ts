import { CheckpointError, type CheckpointReason } from "../../errors.ts";

/** An error as it crosses threads: a structured clone would lose its class and its fields. */
export interface TaskFailure {
  readonly message: string;
  readonly stack: string;
  /** Of a {@link CheckpointError}. */
  readonly reason?: CheckpointReason;
  /** Of a system error: ENOSPC, EIO, … */
  readonly code?: string;
}

export function describeFailure(thrown: unknown): TaskFailure {
  const error: NodeJS.ErrnoException = thrown instanceof Error ? thrown : new Error(String(thrown));
  const { message, stack = "", code } = error;
  return {
    message,
    stack,
    ...(error instanceof CheckpointError && { reason: error.reason }),
    ...(code !== undefined && { code }),
  };
}

/** The error again, with the stack of where it happened. */
export function restoreFailure({ message, stack, reason, code }: TaskFailure): Error {
  const error = reason === undefined ? new Error(message) : new CheckpointError(reason, message);
  error.stack = stack;
  return code === undefined ? error : Object.assign(error, { code });
}
