import { DatabaseError } from "pg";

/**
 * Whether an error says that the connection is gone, or that it can no longer be told what the server did: the socket
 * broke, the server ended the session (FATAL, PANIC), or its answer did not come in time. Everything the server reports
 * as plain ERROR leaves the connection usable.
 */
export function isConnectionLost(error: unknown): boolean {
  if (error instanceof DatabaseError) return error.severity !== "ERROR";
  if (!(error instanceof Error)) return false;
  const code = "code" in error ? error.code : undefined;
  return (typeof code === "string" && NETWORK_CODES.has(code)) || LOST.test(error.message);
}

/** Whether a statement was refused on this side already, for the connection was known to be gone: it did nothing. */
export function isNeverSent(error: unknown): boolean {
  return error instanceof Error && NEVER_SENT.test(error.message);
}

/** Whether no connection could be had at all: nothing was sent, so nothing happened. */
export function isConnectFailure(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  if (error instanceof DatabaseError) return CANNOT_CONNECT_NOW.has(error.code ?? "");
  return ACQUIRE_TIMEOUT.test(error.message) || isConnectionLost(error);
}

// node and the pg driver name these by message only; `connect.test.ts` holds them against the real thing.
const LOST = /^(Connection terminated|Client has encountered a connection error|Client was closed|Query read timeout)/;
const NEVER_SENT = /^(Client has encountered a connection error|Client was closed)/;
const ACQUIRE_TIMEOUT = /^(timeout exceeded when trying to connect|Connection terminated due to connection timeout)/;

const NETWORK_CODES = new Set([
  "ECONNREFUSED",
  "ECONNRESET",
  "ECONNABORTED",
  "EPIPE",
  "ETIMEDOUT",
  "EHOSTUNREACH",
  "ENETUNREACH",
  "ENOTFOUND",
  "EAI_AGAIN",
  "ENOENT",
]);

// too_many_connections, cannot_connect_now (starting, stopping, in recovery)
const CANNOT_CONNECT_NOW = new Set(["53300", "57P03"]);
