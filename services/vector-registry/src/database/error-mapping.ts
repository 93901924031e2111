import { type ErrorMapper, isReason, reasonEntry, ServiceError } from "@persona-mesh/service";
import { DatabaseError } from "pg";
import { isConnectFailure, isConnectionLost } from "./connection-lost.ts";
import { CommitUnknownError } from "./registry-dialect.ts";

/**
 * What callers see of a failed statement. The server's own words stay in the cause, for the log: they may quote values.
 * A constraint that is named after a reason refuses for that reason. Other violations, missing privileges and rows that
 * a policy refuses are defects of the service, which checks all that before, and stay INTERNAL.
 */
export const databaseErrors: ErrorMapper = (error) => {
  if (error instanceof CommitUnknownError) {
    return new ServiceError(
      "COMMIT_UNKNOWN",
      "the database was lost while it committed: the change may be in force. Send the same request again, with the same request id.",
      { cause: error },
    );
  }
  if (error instanceof DatabaseError) return mapState(error);
  if (isConnectFailure(error) || isConnectionLost(error)) return unavailable(NO_ANSWER, error);
  return undefined;
};

function mapState(error: DatabaseError): ServiceError | undefined {
  const state = error.code ?? "";
  if (state === SCHEMA_REFUSAL) return mapRefusal(error);
  if (UNSTORABLE_TEXT.has(state)) {
    return new ServiceError("INVALID_ARGUMENT", "a text of the request holds the character U+0000", { cause: error });
  }
  if (state.startsWith(INTEGRITY_VIOLATION)) return mapViolation(error);
  if (CONFLICTS.has(state)) {
    return new ServiceError("CONFLICT", "other changes to the same rows were in the way; nothing was changed", {
      cause: error,
    });
  }
  if (state === QUERY_CANCELED) return unavailable("the database did not finish a statement in time", error);
  if (state === TOO_MANY_CONNECTIONS) return unavailable("the database has no connection left", error);
  if (state.startsWith(INSUFFICIENT_RESOURCES) || state.startsWith(SYSTEM_ERROR) || state === READ_ONLY) {
    return unavailable("the database cannot write or read at the moment; nothing was changed", error);
  }
  return isConnectFailure(error) || isConnectionLost(error) ? unavailable(NO_ANSWER, error) : undefined;
}

function mapRefusal(error: DatabaseError): ServiceError | undefined {
  const { constraint, detail, message } = error;
  if (!isReason(constraint) || constraint === "INTERNAL") return undefined;
  return new ServiceError(constraint, message, { metadata: readMetadata(detail), cause: error });
}

function mapViolation(error: DatabaseError): ServiceError | undefined {
  const { constraint } = error;
  if (!isReason(constraint) || constraint === "INTERNAL") return undefined;
  return new ServiceError(constraint, reasonEntry(constraint).meaning, { cause: error });
}

/** The schema writes DETAIL by `jsonb_build_object`; anything else is left out rather than passed on. */
function readMetadata(detail: string | undefined): Record<string, string> {
  if (detail === undefined) return {};
  try {
    const parsed: unknown = JSON.parse(detail);
    if (typeof parsed !== "object" || parsed === null || Array.isArray(parsed)) return {};
    return Object.fromEntries(
      Object.entries(parsed).map(([key, value]) => [key, typeof value === "string" ? value : JSON.stringify(value)]),
    );
  } catch {
    return {};
  }
}

function unavailable(message: string, cause: unknown): ServiceError {
  return new ServiceError("DATABASE_UNAVAILABLE", message, { cause });
}

/** SQLSTATE under which the schema's own functions refuse: CONSTRAINT is one of our reasons, DETAIL a JSON object. */
const SCHEMA_REFUSAL = "PM001";
/** character_not_in_repertoire, untranslatable_character: the parameters are UTF-8, so it can only be zero. */
const UNSTORABLE_TEXT = new Set(["22021", "22P05"]);
/** Class of violated constraints: unique, foreign key, check, not null. */
const INTEGRITY_VIOLATION = "23";
const NO_ANSWER = "the database does not answer";
const TOO_MANY_CONNECTIONS = "53300";
const QUERY_CANCELED = "57014";
/** A standby, or a primary that was told to take no writes. */
const READ_ONLY = "25006";
/** Class of disk full, out of memory. */
const INSUFFICIENT_RESOURCES = "53";
/** Class of errors of the server's files. */
const SYSTEM_ERROR = "58";
/** serialization_failure, deadlock_detected, lock_not_available */
const CONFLICTS = new Set(["40001", "40P01", "55P03"]);
