import { create, toBinary } from "@bufbuild/protobuf";
import { anyPack, DurationSchema } from "@bufbuild/protobuf/wkt";
import { Metadata, type status } from "@grpc/grpc-js";
import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema, StatusSchema } from "@persona-mesh/protocol";
import { reasonEntry } from "./reasons.ts";
import type { ServiceError } from "./service-error.ts";

/** What grpc-js sends at the end of a call. */
export interface GrpcStatus {
  readonly code: status;
  readonly details: string;
  readonly metadata: Metadata;
}

/** Domain of every ErrorInfo of the mesh. */
export const ERROR_DOMAIN = "persona-mesh";

/** Trailing metadata that carries google.rpc.Status, by the convention of all gRPC implementations. */
export const STATUS_DETAILS_KEY = "grpc-status-details-bin";

/** Metadata in which the request id travels, both ways. */
export const REQUEST_ID_KEY = "x-request-id";

/**
 * An error as google.rpc.Status: ErrorInfo always, BadRequest and RetryInfo where they apply.
 *
 * The result always fits in trailing headers: proxies and clients commonly refuse more than 8 KiB, so every part is cut.
 */
export function toStatus(error: ServiceError, requestId: string): GrpcStatus {
  const { code } = reasonEntry(error.reason);
  const message = cut(error.message, MAX_MESSAGE);
  const details = [
    anyPack(
      ErrorInfoSchema,
      create(ErrorInfoSchema, {
        reason: error.reason,
        domain: ERROR_DOMAIN,
        metadata: { ...cutMetadata(error.metadata), requestId },
      }),
    ),
  ];
  if (error.fieldViolations.length > 0) {
    const fieldViolations = error.fieldViolations.slice(0, MAX_VIOLATIONS).map((violation) => ({
      field: cut(violation.field, MAX_VALUE),
      description: cut(violation.description, MAX_VALUE),
      reason: violation.reason ?? "",
    }));
    details.push(anyPack(BadRequestSchema, create(BadRequestSchema, { fieldViolations })));
  }
  if (error.retryDelayMs !== undefined) {
    const retryDelay = create(DurationSchema, {
      seconds: BigInt(Math.floor(error.retryDelayMs / 1000)),
      nanos: Math.round((error.retryDelayMs % 1000) * 1e6),
    });
    details.push(anyPack(RetryInfoSchema, create(RetryInfoSchema, { retryDelay })));
  }
  const metadata = new Metadata();
  metadata.set(
    STATUS_DETAILS_KEY,
    Buffer.from(toBinary(StatusSchema, create(StatusSchema, { code, message, details }))),
  );
  metadata.set(REQUEST_ID_KEY, requestId);
  return { code, details: message, metadata };
}

// In UTF-8 bytes. The worst case is 4.5 KiB of details (6 KiB in base64) and 2.3 KiB of percent-encoded message.
const MAX_MESSAGE = 768;
const MAX_VALUE = 160;
const MAX_VIOLATIONS = 8;
const MAX_METADATA_ENTRIES = 8;
const MAX_METADATA_KEY = 48;

function cutMetadata(metadata: Readonly<Record<string, string>>): Record<string, string> {
  const entries = Object.entries(metadata).slice(0, MAX_METADATA_ENTRIES);
  return Object.fromEntries(entries.map(([key, value]) => [cut(key, MAX_METADATA_KEY), cut(value, MAX_VALUE)]));
}

/** At most `limit` bytes, and well-formed: grpc-js percent-encodes the message, which throws on half a character. */
function cut(text: string, limit: number): string {
  const wellFormed = text.toWellFormed();
  if (Buffer.byteLength(wellFormed) <= limit) return wellFormed;
  const ellipsis = "…";
  const { read } = encoder.encodeInto(wellFormed, new Uint8Array(limit - Buffer.byteLength(ellipsis)));
  return wellFormed.slice(0, read) + ellipsis;
}

const encoder = new TextEncoder();
