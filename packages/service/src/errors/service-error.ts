import { type Reason, reasonEntry } from "./reasons.ts";

/**
 * The one error that leaves a service: a stable reason, a message for the caller, and what a program needs to react.
 * Its `cause` goes to the server's log and never to the caller.
 */
export class ServiceError extends Error {
  override readonly name = "ServiceError";
  readonly reason: Reason;
  readonly metadata: Readonly<Record<string, string>>;
  readonly fieldViolations: readonly FieldViolation[];
  /** When a retry may succeed, in milliseconds; undefined where a retry does not help. */
  readonly retryDelayMs: number | undefined;

  /**
   * @param message - for the caller: what is wrong, where, and what would be right. No prompt text, no secrets.
   */
  constructor(reason: Reason, message: string, details: ServiceErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.reason = reason;
    this.metadata = details.metadata ?? {};
    this.fieldViolations = details.fieldViolations ?? [];
    this.retryDelayMs =
      details.retryDelayMs ?? (reasonEntry(reason).retry === "after-delay" ? DEFAULT_RETRY_DELAY_MS : undefined);
  }

  /** Several wrong fields of one request, reported together. */
  static invalid(violations: readonly FieldViolation[]): ServiceError {
    const shown = violations.slice(0, 3).map((v) => `${v.field}: ${v.description}`);
    const more = violations.length > shown.length ? ` (and ${violations.length - shown.length} more)` : "";
    return new ServiceError("INVALID_ARGUMENT", shown.join("; ") + more, { fieldViolations: violations });
  }
}

export interface ServiceErrorDetails {
  /** Numbers and names behind the message, for programs: `{ alpha: "0.65", cap: "0.5" }`. */
  readonly metadata?: Readonly<Record<string, string>>;
  readonly fieldViolations?: readonly FieldViolation[];
  /** @default {@link DEFAULT_RETRY_DELAY_MS} for reasons that a retry can cure, else none */
  readonly retryDelayMs?: number;
  /** What led to this; logged, never sent. */
  readonly cause?: unknown;
}

/** One wrong field of a request. */
export interface FieldViolation {
  /** Path in the request as protobuf spells it: `persona.inline.terms[1].alpha_hundredths`. */
  readonly field: string;
  readonly description: string;
  /** Where one field has its own stable reason. */
  readonly reason?: Reason;
}

/** Long enough that a refused client does not hammer a full server, short enough to go unnoticed by a person. */
export const DEFAULT_RETRY_DELAY_MS = 500;
