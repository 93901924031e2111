import {
  create,
  type DescMessage,
  type DescMethod,
  type DescService,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from "@bufbuild/protobuf";
import { ChannelCredentials, Metadata, status } from "@grpc/grpc-js";
import type { Meter } from "@opentelemetry/api";
import { methodPath } from "../auth/permissions.ts";
import { ClientError } from "../errors/client-error.ts";
import { REQUEST_ID_KEY } from "../errors/status.ts";
import type { TlsSource } from "../tls/tls-source.ts";
import { type CallObserver, createCallObserver } from "./call-observer.ts";
import { type Channel, type ChannelSecurity, openChannel } from "./channel.ts";
import { KEEPALIVE_TIME_MS, KEEPALIVE_TIMEOUT_MS, MAX_MESSAGE_BYTES } from "./limits.ts";

/**
 * A service's methods as functions: unary ones give a promise, server streams an async iterable. All failures are
 * {@link ClientError}s.
 */
export type Client<Service extends DescService> = {
  readonly [Name in keyof Service["method"]]: ClientMethod<Service["method"][Name]>;
} & Disposable & {
    /** Cancel the calls that still run and close the connection. */
    close(): void;
  };

/**
 * A stream's call starts when its iteration starts, once per iteration. Leaving the loop cancels the call at the
 * server; a reader that is slow makes the server wait.
 */
export type ClientMethod<Method> = Method extends {
  methodKind: infer Kind;
  input: infer Input extends DescMessage;
  output: infer Output extends DescMessage;
}
  ? Kind extends "unary"
    ? (request: MessageInitShape<Input>, options?: CallOptions) => Promise<MessageShape<Output>>
    : Kind extends "server_streaming"
      ? (request: MessageInitShape<Input>, options?: CallOptions) => AsyncIterable<MessageShape<Output>>
      : never
  : never;

export interface ClientOptions {
  /** Bearer token of every call, or where to get it for each call. */
  readonly token?: string | (() => string | Promise<string>);
  /**
   * Send the token without TLS to another machine, where everyone on the way can read it.
   * @default false
   */
  readonly allowInsecureToken?: boolean;
  /**
   * Deadline of calls that set none, in milliseconds; Infinity leaves it to the server.
   * @default {@link UNARY_TIMEOUT_MS} for unary calls, Infinity for streams
   */
  readonly timeoutMs?: number;
  /** Measures the calls: the meter of {@link createMetrics}. @default calls are not measured */
  readonly meter?: Meter;
  /** Name that the server's certificate must have, where it differs from the address. */
  readonly serverName?: string;
  /**
   * The service that must answer, proven by the SPIFFE id of its certificate, whatever host that names: within the mesh,
   * where addresses come and go. Needs a {@link TlsSource}.
   */
  readonly serverIdentity?: ServerIdentity;
}

export interface ServerIdentity {
  readonly service: string;
  /** @default "persona-mesh" */
  readonly trustDomain?: string;
}

export interface CallOptions {
  /** Cancels the call. */
  readonly signal?: AbortSignal;
  /** Deadline, in milliseconds from now; Infinity leaves it to the server. */
  readonly timeoutMs?: number;
  /** Id under which the server logs the call; the server makes one where unset. At most 64 of `A-Z a-z 0-9 . _ : -`. */
  readonly requestId?: string;
}

/** A unary call without a deadline of its own fails after this rather than hang. */
export const UNARY_TIMEOUT_MS = 60_000;

/**
 * @param address - `host:port`, or any target that gRPC resolves, such as `dns:///workers:7070`
 * @param security - with a {@link TlsSource}, calls after a change of certificates use a new connection; the source
 *   stays its owner's to close
 * @throws ClientError when a token would travel unprotected
 */
export function createClient<Service extends DescService>(
  service: Service,
  address: string,
  security: ChannelCredentials | TlsSource,
  options: ClientOptions = {},
): Client<Service> {
  const isSecure = !(security instanceof ChannelCredentials) || security._isSecure();
  if (options.token !== undefined && !isSecure && !options.allowInsecureToken && !isLoopback(address)) {
    throw new ClientError(status.FAILED_PRECONDITION, "CONFIG_INVALID", `a token to ${address} needs TLS`);
  }
  const channel = openChannel(address, channelSecurity(security, options), {
    "grpc.max_receive_message_length": MAX_MESSAGE_BYTES,
    "grpc.max_send_message_length": MAX_MESSAGE_BYTES,
    "grpc.keepalive_time_ms": KEEPALIVE_TIME_MS,
    "grpc.keepalive_timeout_ms": KEEPALIVE_TIMEOUT_MS,
    // Pings without calls look like abuse to some servers; an idle connection needs none.
    "grpc.keepalive_permit_without_calls": 0,
    ...(options.serverName === undefined
      ? {}
      : { "grpc.ssl_target_name_override": options.serverName, "grpc.default_authority": options.serverName }),
  });
  const connection: Connection = {
    channel,
    running: new Set(),
    options,
    observe: createCallObserver(address, options.meter),
  };
  const methods = service.methods.map((method) => [
    method.localName,
    method.methodKind === "unary" ? unary(connection, method) : stream(connection, method),
  ]);
  const close = () => {
    // grpc-js alone would keep the connection open until the calls end by themselves.
    for (const call of connection.running) call.cancel();
    channel.close();
  };
  return Object.assign(Object.fromEntries(methods), { close, [Symbol.dispose]: close }) as Client<Service>;
}

interface Connection {
  readonly channel: Channel;
  readonly running: Set<{ cancel(): void }>;
  readonly options: ClientOptions;
  readonly observe: CallObserver;
}

function channelSecurity(
  security: ChannelCredentials | TlsSource,
  { serverIdentity }: ClientOptions,
): ChannelCredentials | ChannelSecurity {
  if (!(security instanceof ChannelCredentials)) {
    return { source: security, ...(serverIdentity === undefined ? {} : { serverIdentity }) };
  }
  if (serverIdentity === undefined) return security;
  throw new ClientError(status.FAILED_PRECONDITION, "CONFIG_INVALID", "serverIdentity needs a TlsSource");
}

function unary({ channel, running, options, observe }: Connection, method: DescMethod) {
  return async (request: MessageInitShape<DescMessage>, callOptions: CallOptions = {}) => {
    const metadata = await callMetadata(options, callOptions);
    const { signal } = callOptions;
    throwIfAborted(signal);
    const lease = channel.lease();
    const end = observe(methodPath(method), metadata);
    let release = () => {};
    let failure: ClientError | undefined;
    try {
      return await new Promise((resolve, reject) => {
        const call = lease.client.makeUnaryRequest(
          methodPath(method),
          encoder(method.input),
          decoder(method.output),
          request,
          metadata,
          deadline(callOptions.timeoutMs ?? options.timeoutMs ?? UNARY_TIMEOUT_MS),
          (error, response) => (error === null ? resolve(response) : reject(error)),
        );
        release = track(call, running, signal);
      });
    } catch (error) {
      failure = ClientError.from(error);
      throw failure;
    } finally {
      release();
      lease.release();
      end(failure);
    }
  };
}

function stream({ channel, running, options, observe }: Connection, method: DescMethod) {
  return (request: MessageInitShape<DescMessage>, callOptions: CallOptions = {}) => ({
    async *[Symbol.asyncIterator]() {
      const metadata = await callMetadata(options, callOptions);
      throwIfAborted(callOptions.signal);
      const lease = channel.lease();
      const end = observe(methodPath(method), metadata);
      const call = lease.client.makeServerStreamRequest(
        methodPath(method),
        encoder(method.input),
        decoder(method.output),
        request,
        metadata,
        deadline(callOptions.timeoutMs ?? options.timeoutMs),
      );
      // The status of a call that we cancelled arrives after the loop below stopped listening for it.
      call.on("error", () => {});
      const release = track(call, running, callOptions.signal);
      let failure: ClientError | undefined = new ClientError(
        status.CANCELLED,
        "CANCELLED",
        "the reader left the stream",
      );
      try {
        yield* call;
        failure = undefined;
      } catch (error) {
        failure = ClientError.from(error);
        throw failure;
      } finally {
        release();
        call.cancel();
        lease.release();
        end(failure);
      }
    },
  });
}

function encoder<Desc extends DescMessage>(schema: Desc): (message: MessageInitShape<Desc>) => Buffer {
  return (message) => {
    const bytes = toBinary(schema, create(schema, message) as MessageShape<Desc>);
    return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  };
}

function decoder<Desc extends DescMessage>(schema: Desc): (bytes: Buffer) => MessageShape<Desc> {
  return (bytes) => fromBinary(schema, bytes);
}

async function callMetadata({ token }: ClientOptions, { requestId }: CallOptions): Promise<Metadata> {
  const metadata = new Metadata();
  if (token !== undefined) {
    const value = typeof token === "string" ? token : await token();
    // HTTP/2 drops such a header, and the call would be the certificate's.
    if (value === "") throw new ClientError(status.UNAUTHENTICATED, "TOKEN_MISSING", "the token is empty");
    metadata.set("authorization", `Bearer ${value}`);
  }
  if (requestId !== undefined) metadata.set(REQUEST_ID_KEY, requestId);
  return metadata;
}

function deadline(timeoutMs: number | undefined): { deadline?: number } {
  return timeoutMs === undefined ? {} : { deadline: Date.now() + timeoutMs };
}

function throwIfAborted(signal: AbortSignal | undefined): void {
  if (!signal?.aborted) return;
  throw new ClientError(status.CANCELLED, "CANCELLED", "cancelled before the call", { cause: signal.reason });
}

/** Until released, the call is cancelled with its signal and with its client. */
function track(
  call: { cancel(): void },
  running: Set<{ cancel(): void }>,
  signal: AbortSignal | undefined,
): () => void {
  const cancel = () => call.cancel();
  running.add(call);
  signal?.addEventListener("abort", cancel, { once: true });
  return () => {
    running.delete(call);
    signal?.removeEventListener("abort", cancel);
  };
}

/** The token stays on this machine. */
function isLoopback(address: string): boolean {
  return /^(dns:\/\/\/)?(localhost|127(\.\d+){3}|\[::1\])(:\d+)?$|^unix:/.test(address);
}
