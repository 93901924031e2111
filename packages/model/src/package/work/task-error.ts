import { CheckpointError, type CheckpointReason } from "../../errors.ts";

/** An error as it crosses threads: a structured clone would lose its class and its fields. */
export interface TaskFailure {
  readonly message: string;
  readonly stack: string;
  /** Of a {@link CheckpointError}. */
  readonly reason?: CheckpointReason;
  /** Fields of a system error: `code` (ENOSPC, EIO, …), `syscall`, `path`. */
  readonly system: Readonly<Record<string, unknown>>;
}

const SYSTEM_FIELDS = ["code", "errno", "syscall", "path"] as const;

export function describeFailure(thrown: unknown): TaskFailure {
  const error: NodeJS.ErrnoException = thrown instanceof Error ? thrown : new Error(String(thrown));
  const { message, stack = "" } = error;
  const fields = SYSTEM_FIELDS.filter((field) => error[field] !== undefined);
  return {
    message,
    stack,
    ...(error instanceof CheckpointError && { reason: error.reason }),
    system: Object.fromEntries(fields.map((field) => [field, error[field]])),
  };
}

/** The error again, with the stack of where it happened. */
export function restoreFailure({ message, stack, reason, system }: TaskFailure): Error {
  const error = reason === undefined ? new Error(message) : new CheckpointError(reason, message);
  error.stack = stack;
  return Object.assign(error, system);
}
