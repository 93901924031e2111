import { status } from "@grpc/grpc-js";
import { ClientError, type FieldViolation, reasonEntry, ServiceError } from "@persona-mesh/service/client";
import { CommanderError } from "commander";
import { LocalError } from "../local-error.ts";
import { ExitCode, exitCodeOfStatus } from "./exit-code.ts";
import { InterruptedError } from "./io.ts";

/** A command that ended badly, as it is printed: from the server, from a package, or from the command line itself. */
export interface Failure {
  /** A gRPC code's name, or "USAGE" for a command line that is wrong in itself. */
  readonly code: string;
  /** Stable, for programs. */
  readonly reason: string;
  readonly message: string;
  readonly fieldViolations: readonly FieldViolation[];
  readonly metadata: Readonly<Record<string, string>>;
  /** When a retry may succeed, in milliseconds. */
  readonly retryDelayMillis?: number;
  /** Under which the server's log has the call. */
  readonly requestId?: string;
  readonly exitCode: ExitCode;
}

/** Reasons for which a command line makes no sense, beside those of its parser. Stable. */
export const USAGE_REASONS = [
  "PROMPT_MISSING",
  "PROMPT_TOO_LONG",
  "PROMPT_NOT_UTF8",
  /** Options that make no sense together, or one that needs another. */
  "OPTIONS_CONFLICT",
  /** A short persona name, and nothing that says whose. */
  "TENANT_UNKNOWN",
  /** Not the id of a tenant. */
  "TENANT_INVALID",
  /** Not a name that a model can have in the models directory. */
  "MODEL_NAME_INVALID",
  /** Not a name of what the command is about. */
  "NAME_INVALID",
  /** Not a term of a persona: a vector, an alpha, and layers. */
  "TERM_INVALID",
  /** Something that cannot be undone, and nobody who could be asked. */
  "CONFIRMATION_NEEDED",
] as const;

type UsageReason = (typeof USAGE_REASONS)[number];

/** The command line asks for something that makes no sense; nothing was tried. */
export class UsageError extends Error {
  override readonly name = "UsageError";
  readonly reason: UsageReason;

  constructor(reason: UsageReason, message: string) {
    super(message);
    this.reason = reason;
  }
}

/** What is printed for anything that was thrown. */
export function failureOf(error: unknown): Failure {
  if (error instanceof ClientError) {
    return {
      // What grpc-js appends to every failed connection, mostly with nothing after it.
      ...plain(error.code, error.reason, error.rawMessage.replace(/\s*Resolution note:\s*$/, "")),
      fieldViolations: error.fieldViolations,
      metadata: error.metadata,
      ...(error.retryDelayMs === undefined ? {} : { retryDelayMillis: error.retryDelayMs }),
      ...(error.requestId === undefined ? {} : { requestId: error.requestId }),
    };
  }
  if (error instanceof ServiceError) return plain(reasonEntry(error.reason).code, error.reason, error.message);
  if (error instanceof LocalError) return plain(error.code, error.reason, error.message);
  if (error instanceof UsageError) return usage(error.reason, error.message);
  if (error instanceof CommanderError) return usageOfCommander(error);
  if (error instanceof InterruptedError) {
    return { ...plain(status.CANCELLED, "INTERRUPTED", error.message), exitCode: exitCodeOfInterrupt(error) };
  }
  if (isReasoned(error)) return plain(codeOfReason(error.reason), error.reason, error.message);
  if (isSystemError(error)) return failureOfSystem(error);
  return plain(status.INTERNAL, "INTERNAL", error instanceof Error ? error.message : String(error));
}

function plain(code: status, reason: string, message: string): Failure {
  return { code: status[code], reason, message, fieldViolations: [], metadata: {}, exitCode: exitCodeOfStatus(code) };
}

function usage(reason: string, message: string): Failure {
  return { code: "USAGE", reason, message, fieldViolations: [], metadata: {}, exitCode: ExitCode.USAGE };
}

/** "commander.unknownOption" is UNKNOWN_OPTION; the suggestion that commander puts on a line of its own joins the message. */
function usageOfCommander(error: CommanderError): Failure {
  const name = error.code.replace(/^commander\./, "");
  const message = error.message.replace(/^error: /, "").replace(/\s*\n\s*/g, " ");
  return usage(name.replace(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase(), message);
}

/**
 * An error of the model or the steering package. Told by its shape: naming the classes would load both packages at every
 * start, also of commands that need neither.
 */
function isReasoned(error: unknown): error is Error & { readonly reason: string } {
  return error instanceof Error && "reason" in error && /^[A-Z][A-Z0-9_]*$/.test(String(error.reason));
}

/** Their reasons say what kind of thing is wrong by their last word; all others are about what was given. */
function codeOfReason(reason: string): status {
  if (reason.endsWith("_NOT_FOUND")) return status.NOT_FOUND;
  if (reason.endsWith("_EXISTS")) return status.ALREADY_EXISTS;
  if (reason.endsWith("_CORRUPT")) return status.DATA_LOSS;
  return reason === "NO_SEPARATION" || reason.endsWith("_IN_USE") || reason.endsWith("_NO_SPACE")
    ? status.FAILED_PRECONDITION
    : status.INVALID_ARGUMENT;
}

function exitCodeOfInterrupt({ by }: InterruptedError): ExitCode {
  if (by === "SIGPIPE") return ExitCode.BROKEN_PIPE;
  return by === "SIGTERM" ? ExitCode.TERMINATED : ExitCode.INTERRUPTED;
}

type SystemError = Error & { readonly code: string; readonly syscall: string; readonly path?: string };

function isSystemError(error: unknown): error is SystemError {
  return error instanceof Error && "syscall" in error && "code" in error && typeof error.code === "string";
}

function failureOfSystem(error: SystemError): Failure {
  if (error.code === "ENOENT") return plain(status.NOT_FOUND, "FILE_NOT_FOUND", `no such file: ${error.path ?? "?"}`);
  return plain(status.UNKNOWN, error.code, error.message.replace(/^[A-Z0-9]+: /, ""));
}
