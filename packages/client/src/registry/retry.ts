import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import type { DescMethod, DescService } from "@bufbuild/protobuf";
import { status } from "@grpc/grpc-js";
import { type CallOptions, type Client, ClientError } from "@persona-mesh/service/client";

/** Tries of one call, the first included: about two seconds where nobody answers. */
const MAX_TRIES = 5;

/** Longest wait before the second try; doubled for each further one. Milliseconds. */
const FIRST_WAIT_MILLIS = 150;

/** Longest wait between two tries, also where the server asks for more. Milliseconds. */
const MAX_WAIT_MILLIS = 3_000;

/** Calls of a service as functions of any request. */
type AnyCall = (request: object, options?: CallOptions) => Promise<unknown>;

/**
 * The same client, whose unary calls are tried again where another try may succeed: nobody there, others in the way, or a
 * commit that nobody knows the end of. Every try of a mutation carries the same request id, so that it has one effect.
 */
export function retrying<Service extends DescService>(service: Service, client: Client<Service>): Client<Service> {
  const calls = client as unknown as Readonly<Record<string, AnyCall>>;
  const methods = service.methods
    .filter(({ methodKind }) => methodKind === "unary")
    .map((method) => [method.localName, withRetries(method, calls[method.localName] as AnyCall)]);
  return { ...client, ...Object.fromEntries(methods) };
}

function withRetries(method: DescMethod, call: AnyCall): AnyCall {
  const isMutation = "requestId" in method.input.field;
  return async (request, options) => {
    const given = "requestId" in request ? request.requestId : undefined;
    const same = isMutation ? { ...request, requestId: given || randomUUID() } : request;
    for (let attempt = 1; ; attempt++) {
      try {
        return await call(same, options);
      } catch (error) {
        if (attempt === MAX_TRIES || !mayPass(error) || options?.signal?.aborted) throw error;
        await pause(waitBefore(attempt, error), options?.signal, error);
      }
    }
  };
}

function mayPass(error: unknown): error is ClientError {
  return error instanceof ClientError && (error.code === status.UNAVAILABLE || error.reason === "CONFLICT");
}

/** Random below a doubling limit, so that those who failed together do not come back together; never before the server says. */
function waitBefore(attempt: number, { retryDelayMs = 0 }: ClientError): number {
  const jitter = Math.random() * FIRST_WAIT_MILLIS * 2 ** (attempt - 1);
  return Math.min(MAX_WAIT_MILLIS, Math.max(retryDelayMs, 0) + jitter);
}

/** @throws `error` when the wait is cut short */
async function pause(millis: number, signal: AbortSignal | undefined, error: unknown): Promise<void> {
  await sleep(millis, undefined, signal === undefined ? {} : { signal }).catch(() => {
    throw error;
  });
}
