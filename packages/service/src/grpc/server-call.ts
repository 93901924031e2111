import { constants, type ServerHttp2Stream } from "node:http2";
import { performance } from "node:perf_hooks";
import { type Metadata, type ServerInterceptingCall, status } from "@grpc/grpc-js";
import type { Caller } from "../auth/caller.ts";
import { reasonOfCode } from "../errors/client-error.ts";
import { type ErrorMapper, toServiceError } from "../errors/error-mapper.ts";
import { type Reason, reasonEntry } from "../errors/reasons.ts";
import { ServiceError } from "../errors/service-error.ts";
import { toStatus } from "../errors/status.ts";
import type { LogFields, Logger } from "../log.ts";
import type { CallSpan } from "../telemetry/call-spans.ts";
import type { CallContext } from "./implementation.ts";
import { MAX_READER_PAUSE_MS } from "./limits.ts";

/** The wire side of a call: grpc-js's own innermost object, on which every status ends up, also those it makes itself. */
export type Wire = Pick<ServerInterceptingCall, "sendStatus" | "getPeer" | "getDeadline">;

/** What grpc-js keeps to itself: the HTTP/2 stream under the call. */
interface WireStream {
  readonly stream?: Pick<ServerHttp2Stream, "close">;
}

type WireStatus = Parameters<Wire["sendStatus"]>[0];

export interface ServerCallOptions {
  readonly path: string;
  readonly requestId: string;
  readonly log: Logger;
  readonly mappers: readonly ErrorMapper[];
  /** Ended with the call; undefined where calls are not traced. */
  readonly span: CallSpan | undefined;
  /** Called once, when the call has its outcome. */
  readonly onEnd: (outcome: CallOutcome) => void;
}

/** What the one log line of a call says. */
export interface CallOutcome {
  readonly path: string;
  readonly code: status;
  /** Unset for OK, and for statuses of foreign services that have no reason of ours. */
  readonly reason?: Reason;
  readonly durationMs: number;
  readonly peer: string;
  readonly caller: Caller | undefined;
  readonly annotations: LogFields;
  /** Carries request id and tenant. */
  readonly log: Logger;
}

/**
 * One call from its first header to its one status: the only place where a status leaves the server, so that each has
 * its details, each call is logged once, and each end fires the handler's signal.
 */
export class ServerCall {
  readonly path: string;
  readonly requestId: string;
  readonly signal: AbortSignal;
  readonly span: CallSpan | undefined;
  /** Its handler runs; kept by the guard. */
  handling = false;
  readonly #abort = new AbortController();
  readonly #wire: Wire;
  readonly #sendStatus: (status: WireStatus) => void;
  readonly #mappers: readonly ErrorMapper[];
  readonly #started = performance.now();
  readonly #onEnd: (outcome: CallOutcome) => void;
  #log: Logger;
  #caller: Caller | undefined;
  #annotations: LogFields = {};
  /** The handler's error, which waits until what was written before it is out. */
  #failure: ServiceError | undefined;
  /** Set by the first status, or by the client's going; from then on nothing more is sent. */
  #ended = false;
  #deadlineTimer: NodeJS.Timeout | undefined;
  #readerTimer: NodeJS.Timeout | undefined;
  #deadline = Number.POSITIVE_INFINITY;

  constructor(wire: Wire, options: ServerCallOptions) {
    this.path = options.path;
    this.requestId = options.requestId;
    this.signal = this.#abort.signal;
    this.#wire = wire;
    this.span = options.span;
    this.#log = options.log.child({ requestId: options.requestId, ...options.span?.ids });
    this.#mappers = options.mappers;
    this.#onEnd = options.onEnd;
    // grpc-js sends some statuses past all interceptors (oversize messages, bad compression, deadlines); it does so
    // through this method of the innermost call.
    this.#sendStatus = wire.sendStatus.bind(wire);
    wire.sendStatus = (status) => this.#end(status);
  }

  get ended(): boolean {
    return this.#ended;
  }

  /** The call has a caller: from here on its log lines name the tenant. */
  identify(caller: Caller): void {
    this.#caller = caller;
    this.#log = this.#log.child({ tenant: caller.tenant });
  }

  /** End the call at the client's deadline, or after `defaultMs` where it set none, and after `maxMs` in any case. */
  limitTime(defaultMs: number, maxMs: number): void {
    const now = Date.now();
    const wanted = Number(this.#wire.getDeadline());
    this.#deadline = Math.min(Number.isFinite(wanted) ? wanted : now + defaultMs, now + maxMs);
    const delay = Math.max(0, this.#deadline - now);
    const end = () => {
      this.fail(new ServiceError("DEADLINE_EXCEEDED", `the call did not end within ${Math.round(delay)} ms`));
    };
    // Without time nothing is begun: a timer would let the handler have its first turn.
    if (delay === 0) end();
    else this.#deadlineTimer = setTimeout(end, delay);
  }

  /** Nothing more goes out until the client reads: let it go if it does not within {@link MAX_READER_PAUSE_MS}. */
  awaitReader(): void {
    if (this.#ended) return;
    clearTimeout(this.#readerTimer);
    this.#readerTimer = setTimeout(() => {
      const seconds = MAX_READER_PAUSE_MS / 1000;
      const error = new ServiceError("READER_STALLED", `nothing of what was sent was read for ${seconds} s`);
      this.#finish(reasonEntry(error.reason).code, error);
      // A status would wait behind what is not read. A reset does not, and clients take this one for RESOURCE_EXHAUSTED.
      (this.#wire as WireStream).stream?.close(constants.NGHTTP2_ENHANCE_YOUR_CALM);
    }, MAX_READER_PAUSE_MS);
    this.#readerTimer.unref();
  }

  /** The client has read what it was waited for. */
  readerCame(): void {
    clearTimeout(this.#readerTimer);
  }

  context(metadata: Metadata): CallContext {
    const caller = this.#caller;
    if (caller === undefined) throw new Error(`${this.path} has no caller: it is public and takes no context`);
    return {
      method: this.path,
      signal: this.signal,
      deadline: this.#deadline,
      caller,
      requestId: this.requestId,
      log: this.#log,
      metadata,
      annotate: (fields) => {
        this.#annotations = { ...this.#annotations, ...fields };
      },
      record: (part) => this.span?.record(part),
    };
  }

  /** End the call with an error at once, whatever is still queued. */
  fail(error: unknown): void {
    this.#end(this.statusOf(error));
  }

  /** The status with which grpc-js is to end the call after what was thrown. A defect is logged, with its cause. */
  statusOf(error: unknown): { code: status; details: string } {
    // A handler that stops because of its signal throws all kinds of things: what counts is why the signal fired.
    const isLate = this.signal.aborted;
    const failure = toServiceError(isLate ? this.signal.reason : error, this.#mappers);
    if (isLate && toServiceError(error, this.#mappers).reason === "INTERNAL" && !isAbortError(error)) {
      this.#log.warn({ err: error, method: this.path }, "a handler failed after its call was over");
    }
    if (failure.reason === "INTERNAL" || failure.reason === "STEP_FAILED") {
      this.#log.error({ err: failure.cause ?? failure, method: this.path }, "call failed by a defect");
    }
    this.#failure = failure;
    return { code: reasonEntry(failure.reason).code, details: failure.message };
  }

  /** The client cancelled or its connection is gone. */
  clientGone(): void {
    const error = new ServiceError("CANCELLED", "the client ended the call");
    this.#finish(status.CANCELLED, error);
  }

  /** Every status comes through here; the first one counts. */
  #end(given: WireStatus): void {
    if (this.#ended) return;
    const code = given.code ?? status.UNKNOWN;
    const error = code === status.OK ? undefined : (this.#failure ?? foreignError(code, given.details ?? ""));
    this.#finish(code, error);
    this.#sendStatus(error === undefined ? given : toStatus(error, this.requestId));
  }

  #finish(code: status, error: ServiceError | undefined): void {
    if (this.#ended) return;
    this.#ended = true;
    clearTimeout(this.#deadlineTimer);
    clearTimeout(this.#readerTimer);
    this.#abort.abort(error ?? new ServiceError("CANCELLED", "the call is over"));
    const endCode = error === undefined ? code : reasonEntry(error.reason).code;
    this.span?.end(endCode, {
      "persona.request_id": this.requestId,
      ...(this.#caller === undefined ? {} : { "persona.tenant": this.#caller.tenant }),
      ...(error === undefined ? {} : { "persona.reason": error.reason }),
    });
    this.#onEnd({
      path: this.path,
      code: endCode,
      ...(error === undefined ? {} : { reason: error.reason }),
      durationMs: performance.now() - this.#started,
      peer: this.#wire.getPeer(),
      caller: this.#caller,
      annotations: this.#annotations,
      log: this.#log,
    });
  }
}

function isAbortError(error: unknown): boolean {
  return error instanceof Error && error.name === "AbortError";
}

/**
 * What a status means that grpc-js made itself: it has no reason, only its text tells. Undefined for the statuses of
 * health and reflection, whose codes belong to their own protocols.
 */
function foreignError(code: status, details: string): ServiceError | undefined {
  if (code === status.INTERNAL && /deserializ|decompress/.test(details)) {
    return new ServiceError("MESSAGE_MALFORMED", "the request cannot be read as the message that this method takes");
  }
  if (code === status.INTERNAL && details.includes("grpc-timeout")) {
    return new ServiceError("INVALID_ARGUMENT", details);
  }
  const reason = reasonOfCode(code);
  return reasonEntry(reason).code === code ? new ServiceError(reason, details) : undefined;
}
