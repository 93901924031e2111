import {
  type Metadata,
  ServerInterceptingCall,
  type ServerInterceptor,
  type ServerListener,
  status,
} from "@grpc/grpc-js";
import type { Histogram, Meter } from "@opentelemetry/api";
import type { Authenticator } from "../auth/authenticator.ts";
import { type Access, authorize } from "../auth/permissions.ts";
import type { ErrorMapper } from "../errors/error-mapper.ts";
import { ServiceError } from "../errors/service-error.ts";
import { REQUEST_ID_KEY } from "../errors/status.ts";
import type { Logger } from "../log.ts";
import { startServerSpan } from "../telemetry/call-spans.ts";
import { callDuration, endAttributes, startAttributes } from "../telemetry/rpc-conventions.ts";
import type { CallContext } from "./implementation.ts";
import { MAX_PUBLIC_CALLS } from "./limits.ts";
import { requestIdOf } from "./request-id.ts";
import { type CallOutcome, ServerCall, type Wire } from "./server-call.ts";

export interface CallGuardOptions {
  /** Who may call what, by full path. A path that is not here is denied. */
  readonly access: ReadonlyMap<string, Access>;
  readonly authenticate: Authenticator;
  readonly log: Logger;
  /** Where calls are measured. */
  readonly meter: Meter;
  readonly mappers: readonly ErrorMapper[];
  readonly deadlines: Deadlines;
  /** Calls with a handler that run at once; further ones are refused with SERVER_BUSY. */
  readonly maxCalls: number;
  /** Refuses every new call while it returns an error: before the service is ready and while it drains. */
  readonly closed: () => ServiceError | undefined;
}

/** How long calls may take, in milliseconds: what a client that sets no deadline gets, and what no client can exceed. */
interface Deadlines {
  readonly unaryDefaultMs: number;
  readonly unaryMaxMs: number;
  readonly streamDefaultMs: number;
  readonly streamMaxMs: number;
}

/**
 * The gate in front of every method: request id, caller, permission, limits and deadline, before one byte of the message
 * is read; one log line afterwards.
 */
export class CallGuard {
  /** Must be the server's first interceptor: the one next to the wire. */
  readonly interceptor: ServerInterceptor;
  readonly #options: CallGuardOptions;
  readonly #admitted = new WeakMap<Metadata, ServerCall>();
  /** Admitted calls that have no status yet, or whose handler has not returned yet. */
  readonly #running = new Set<ServerCall>();
  readonly #public = new Set<ServerCall>();
  readonly #duration: Histogram;
  #onIdle: (() => void) | undefined;

  constructor(options: CallGuardOptions) {
    this.#options = options;
    this.#duration = callDuration(options.meter, "server");
    options.meter
      .createObservableUpDownCounter("persona.server.running_calls", {
        description: "Calls whose handlers run now.",
        unit: "{call}",
      })
      .addCallback((result) => result.observe(this.#running.size));
    this.interceptor = (method, wire) => {
      let call: ServerCall | undefined;
      const listener: ServerListener = {
        onReceiveMetadata: (metadata, proceed) => {
          const opened = this.#open(method.path, wire, metadata);
          call = opened;
          this.#admit(opened, method.responseStream, metadata, () => verifiedCertificate(wire)).then(
            (visible) => {
              if (!opened.ended) proceed(visible);
            },
            (error: unknown) => opened.fail(error),
          );
        },
        onReceiveMessage: (message, proceed) => {
          const refusal = this.#options.access.get(method.path)?.refuse?.(message);
          if (refusal === undefined) proceed(message);
          else call?.fail(refusal);
        },
        onCancel: () => call?.clientGone(),
      };
      return new ServerInterceptingCall(wire, {
        start: (next) => next(listener),
        sendMetadata: (metadata, next) => {
          if (call !== undefined) metadata.set(REQUEST_ID_KEY, call.requestId);
          next(metadata);
        },
      });
    };
  }

  /** Calls that hold something: those drained before shutdown. Public calls do not count. */
  get runningCalls(): number {
    return this.#running.size;
  }

  /** Run the handler of an admitted call; `metadata` is what the guard passed on for it. */
  async handle(metadata: Metadata, handler: (call: ServerCall, context: CallContext) => Promise<void>): Promise<void> {
    const call = this.#admitted.get(metadata);
    if (call === undefined) throw new Error("a call reached its handler without passing the guard");
    call.handling = true;
    try {
      const run = () => handler(call, call.context(metadata));
      await (call.span === undefined ? run() : call.span.run(run));
    } finally {
      call.handling = false;
      this.#release(call);
    }
  }

  /** Resolves when no call runs. For one waiter at a time: the drain. */
  idle(): Promise<void> {
    if (this.#running.size === 0) return Promise.resolve();
    return new Promise((resolve) => {
      this.#onIdle = resolve;
    });
  }

  /** End every call, public ones too, with this error; their handlers' signals fire. */
  endAll(error: ServiceError): void {
    for (const call of [...this.#running, ...this.#public]) call.fail(error);
  }

  #open(path: string, wire: Wire, metadata: Metadata): ServerCall {
    const call: ServerCall = new ServerCall(wire, {
      path,
      requestId: requestIdOf(metadata),
      log: this.#options.log,
      mappers: this.#options.mappers,
      span: startServerSpan(path, metadata),
      onEnd: (outcome) => {
        this.#duration.record(outcome.durationMs / 1000, {
          ...startAttributes(path),
          ...endAttributes(outcome.code, "server"),
        });
        this.#public.delete(call);
        this.#release(call);
        logOutcome(outcome, this.#options.access.get(path)?.kind === "public");
      },
    });
    return call;
  }

  /**
   * Let a call in or throw.
   *
   * @returns the metadata for the handler, without credentials
   */
  async #admit(
    call: ServerCall,
    isStream: boolean,
    metadata: Metadata,
    certificate: () => Uint8Array | undefined,
  ): Promise<Metadata> {
    const { access, authenticate, deadlines, maxCalls, closed } = this.#options;
    const declared = access.get(call.path);
    if (declared?.kind === "public") {
      if (this.#public.size >= MAX_PUBLIC_CALLS) throw busy(MAX_PUBLIC_CALLS);
      this.#public.add(call);
      if (!isStream) call.limitTime(deadlines.unaryDefaultMs, deadlines.unaryMaxMs);
      return withoutCredentials(metadata);
    }
    const caller = await authenticate({ authorization: metadata.get("authorization"), certificate });
    call.identify(caller);
    authorize(caller, declared, call.path);
    const refusal = closed();
    if (refusal !== undefined) throw refusal;
    if (this.#running.size >= maxCalls) throw busy(maxCalls);
    if (call.ended) throw new ServiceError("CANCELLED", "the client ended the call");
    this.#running.add(call);
    if (isStream) call.limitTime(deadlines.streamDefaultMs, deadlines.streamMaxMs);
    else call.limitTime(deadlines.unaryDefaultMs, deadlines.unaryMaxMs);
    const visible = withoutCredentials(metadata);
    this.#admitted.set(visible, call);
    return visible;
  }

  #release(call: ServerCall): void {
    if (!call.ended || call.handling) return;
    this.#running.delete(call);
    if (this.#running.size === 0) this.#onIdle?.();
  }
}

/** The peer's certificate, DER, where the connection verified it up to a trusted authority. */
function verifiedCertificate(wire: Pick<ServerInterceptingCall, "getAuthContext">): Uint8Array | undefined {
  try {
    return wire.getAuthContext().sslPeerCertificate?.raw;
  } catch {
    // A connection that is gone by now has no certificate, and grpc-js trips over that.
    return undefined;
  }
}

function busy(limit: number): ServiceError {
  return new ServiceError("SERVER_BUSY", `the server handles ${limit} calls, as many as it may at once`);
}

function withoutCredentials(metadata: Metadata): Metadata {
  const visible = metadata.clone();
  visible.remove("authorization");
  return visible;
}

function logOutcome({ log, code, ...outcome }: CallOutcome, isPublic: boolean): void {
  const isDefect = code === status.INTERNAL || code === status.UNKNOWN || code === status.DATA_LOSS;
  log[isDefect ? "error" : isPublic ? "debug" : "info"](
    {
      ...outcome.annotations,
      method: outcome.path,
      code: status[code],
      reason: outcome.reason,
      durationMs: Math.round(outcome.durationMs * 1000) / 1000,
      peer: outcome.peer,
      subject: outcome.caller?.subject,
    },
    "call ended",
  );
}
