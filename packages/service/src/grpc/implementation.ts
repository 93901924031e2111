import type { DescMessage, DescService, MessageInitShape, MessageShape } from "@bufbuild/protobuf";
import type { Metadata } from "@grpc/grpc-js";
import type { Caller } from "../auth/caller.ts";
import type { LogFields, Logger } from "../log.ts";
import type { CallPart } from "../telemetry/call-spans.ts";

/** One function per method of the service: the whole service, so that a new method in the proto does not go unnoticed. */
export type ServiceImplementation<Service extends DescService> = {
  readonly [Name in keyof Service["method"]]: MethodImplementation<Service["method"][Name]>;
};

/**
 * Unary: resolve with the response. Server streaming: an async generator; it is asked for its next message only when
 * the client has room for it, and its `finally` blocks run when the call ends for whatever reason.
 */
export type MethodImplementation<Method> =
  Method extends UnaryMethod<infer Input, infer Output>
    ? (request: MessageShape<Input>, context: CallContext) => Promise<MessageInitShape<Output>>
    : Method extends ServerStreamingMethod<infer Input, infer Output>
      ? (request: MessageShape<Input>, context: CallContext) => AsyncIterable<MessageInitShape<Output>>
      : never;

interface UnaryMethod<Input extends DescMessage, Output extends DescMessage> {
  readonly methodKind: "unary";
  readonly input: Input;
  readonly output: Output;
}

interface ServerStreamingMethod<Input extends DescMessage, Output extends DescMessage> {
  readonly methodKind: "server_streaming";
  readonly input: Input;
  readonly output: Output;
}

/** What a handler knows of its call. */
export interface CallContext {
  /** Full path: `/persona.inference.v1.InferenceService/Generate`. */
  readonly method: string;
  /**
   * Fires when the call is over for the client: it cancelled, went away, its deadline passed, or the server's drain
   * time is up. Its `reason` is a ServiceError. A handler stops work and frees what it holds.
   */
  readonly signal: AbortSignal;
  /** When the call ends at the latest, in milliseconds since the epoch: the client's deadline within the server's. */
  readonly deadline: number;
  /** Who calls, proven by the token. The tenant of a call is the tenant of its caller. */
  readonly caller: Caller;
  readonly requestId: string;
  /** Carries request id and tenant. */
  readonly log: Logger;
  /** What the client sent along, without credentials. */
  readonly metadata: Metadata;
  /** Add fields to the one line that is logged when the call ends, such as alpha, layers and entropy; never text. */
  annotate(fields: LogFields): void;
  /** Add what the call went through to its trace, where it has one; also when the call is over already. */
  record(part: CallPart): void;
}
