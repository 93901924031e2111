import { type DescMessage, fromBinary, type MessageShape } from "@bufbuild/protobuf";
import { type Any, anyUnpack } from "@bufbuild/protobuf/wkt";
import { type Metadata, status } from "@grpc/grpc-js";
import {
  BadRequestSchema,
  type ErrorInfo,
  ErrorInfoSchema,
  RetryInfoSchema,
  StatusSchema,
} from "@persona-mesh/protocol";
import { isReason, type Reason } from "./reasons.ts";
import type { FieldViolation } from "./service-error.ts";
import { ERROR_DOMAIN, REQUEST_ID_KEY, STATUS_DETAILS_KEY } from "./status.ts";

/** A failed call as the client sees it. Code and reason stand in front of the message. */
export class ClientError extends Error {
  override readonly name = "ClientError";
  readonly code: status;
  readonly reason: Reason;
  /** The message without code and reason. */
  readonly rawMessage: string;
  readonly metadata: Readonly<Record<string, string>>;
  readonly fieldViolations: readonly FieldViolation[];
  /** When a retry may succeed, in milliseconds; undefined where the server did not say. */
  readonly retryDelayMs: number | undefined;
  /** Under which the server's log has this call; undefined when no server answered. */
  readonly requestId: string | undefined;

  constructor(code: status, reason: Reason, rawMessage: string, details: ClientErrorDetails = {}) {
    super(
      `${status[code]} [${reason}] ${rawMessage}`,
      details.cause === undefined ? undefined : { cause: details.cause },
    );
    this.code = code;
    this.reason = reason;
    this.rawMessage = rawMessage;
    this.metadata = details.metadata ?? {};
    this.fieldViolations = details.fieldViolations ?? [];
    this.retryDelayMs = details.retryDelayMs;
    this.requestId = details.requestId;
  }

  /** Read what grpc-js throws. Anything else, and any status without our details, still gets a reason by its code. */
  static from(error: unknown): ClientError {
    if (error instanceof ClientError) return error;
    if (!isGrpcError(error)) {
      const message = error instanceof Error ? error.message : String(error);
      return new ClientError(status.UNKNOWN, "INTERNAL", message, { cause: error });
    }
    const { message, info, violations, retryDelayMs } = readDetails(error.metadata);
    const requestId = info?.metadata["requestId"] ?? error.metadata?.get(REQUEST_ID_KEY)[0]?.toString();
    const reason = isReason(info?.reason) ? info.reason : reasonOfCode(error.code);
    return new ClientError(error.code, reason, message || error.details, {
      metadata: info?.metadata ?? {},
      fieldViolations: violations,
      ...(retryDelayMs === undefined ? {} : { retryDelayMs }),
      ...(requestId === undefined ? {} : { requestId }),
      cause: error,
    });
  }
}

export interface ClientErrorDetails {
  readonly metadata?: Readonly<Record<string, string>>;
  readonly fieldViolations?: readonly FieldViolation[];
  readonly retryDelayMs?: number;
  readonly requestId?: string;
  readonly cause?: unknown;
}

/** The reason of a status that names none: made by grpc-js itself, a proxy, or another implementation. */
export function reasonOfCode(code: status): Reason {
  switch (code) {
    case status.CANCELLED:
      return "CANCELLED";
    case status.INVALID_ARGUMENT:
    case status.OUT_OF_RANGE:
      return "INVALID_ARGUMENT";
    case status.DEADLINE_EXCEEDED:
      return "DEADLINE_EXCEEDED";
    case status.PERMISSION_DENIED:
      return "PERMISSION_DENIED";
    case status.UNAUTHENTICATED:
      return "TOKEN_INVALID";
    case status.RESOURCE_EXHAUSTED:
      // grpc-js has no other use for this code than a message over its size limit.
      return "MESSAGE_TOO_LARGE";
    case status.UNIMPLEMENTED:
      return "UNIMPLEMENTED";
    case status.UNAVAILABLE:
      return "UNAVAILABLE";
    default:
      return "INTERNAL";
  }
}

interface GrpcError {
  readonly code: status;
  readonly details: string;
  readonly metadata?: Metadata;
}

function isGrpcError(error: unknown): error is Error & GrpcError {
  return error instanceof Error && "code" in error && typeof error.code === "number" && "details" in error;
}

interface Details {
  readonly message?: string;
  readonly info?: ErrorInfo | undefined;
  readonly violations: readonly FieldViolation[];
  readonly retryDelayMs?: number;
}

function readDetails(metadata: Metadata | undefined): Details {
  const bytes = metadata?.get(STATUS_DETAILS_KEY)[0];
  if (!(bytes instanceof Uint8Array)) return { violations: [] };
  try {
    const { message, details } = fromBinary(StatusSchema, bytes);
    const delay = unpack(details, RetryInfoSchema)?.retryDelay;
    const info = unpack(details, ErrorInfoSchema);
    return {
      message,
      info: info?.domain === ERROR_DOMAIN ? info : undefined,
      violations: (unpack(details, BadRequestSchema)?.fieldViolations ?? []).map(({ field, description, reason }) => ({
        field,
        description,
        ...(isReason(reason) ? { reason } : {}),
      })),
      ...(delay === undefined ? {} : { retryDelayMs: Number(delay.seconds) * 1000 + delay.nanos / 1e6 }),
    };
  } catch {
    // Details of a foreign make; the plain code and message still tell what happened.
    return { violations: [] };
  }
}

/** The first detail of the given type. */
function unpack<Desc extends DescMessage>(details: readonly Any[], schema: Desc): MessageShape<Desc> | undefined {
  for (const detail of details) {
    const message = anyUnpack(detail, schema);
    if (message !== undefined) return message;
  }
  return undefined;
}
