import { once } from "node:events";
import {
  create,
  type DescMessage,
  type DescMethod,
  type DescService,
  fromBinary,
  type Message,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from "@bufbuild/protobuf";
import type {
  ServerUnaryCall,
  ServerWritableStream,
  ServiceDefinition,
  sendUnaryData,
  UntypedHandleCall,
  UntypedServiceImplementation,
} from "@grpc/grpc-js";
import { methodPath } from "../auth/permissions.ts";
import { ServiceError } from "../errors/service-error.ts";
import type { CallGuard } from "./call-guard.ts";
import type { CallContext, ServiceImplementation } from "./implementation.ts";

/**
 * A service as grpc-js takes it. grpc-js passes bytes through in both directions; they are decoded and encoded in the
 * handlers, where a failure has a reason and a request id, and only after the guard has let the call in.
 *
 * @throws Error for methods with a stream of requests: the mesh has none
 */
export function serverDefinition(service: DescService): ServiceDefinition {
  return Object.fromEntries(
    service.methods.map((method) => {
      if (method.methodKind !== "unary" && method.methodKind !== "server_streaming") {
        throw new Error(`${methodPath(method)} is ${method.methodKind}: only unary and server streaming are supported`);
      }
      return [
        method.name,
        {
          path: methodPath(method),
          requestStream: false,
          responseStream: method.methodKind === "server_streaming",
          requestSerialize: passThrough,
          requestDeserialize: passThrough,
          responseSerialize: passThrough,
          responseDeserialize: passThrough,
        },
      ];
    }),
  );
}

/** The functions behind {@link serverDefinition}, around an implementation. */
export function serverHandlers<Service extends DescService>(
  service: Service,
  implementation: ServiceImplementation<Service>,
  guard: CallGuard,
): UntypedServiceImplementation {
  return Object.fromEntries(
    service.methods.map((method): [string, UntypedHandleCall] => {
      const handler: unknown = implementation[method.localName as keyof typeof implementation];
      if (typeof handler !== "function") throw new Error(`${methodPath(method)} is not implemented`);
      const bound = handler.bind(implementation) as never;
      return [method.name, method.methodKind === "unary" ? unary(method, bound, guard) : stream(method, bound, guard)];
    }),
  );
}

type UnaryFunction = (request: Message, context: CallContext) => Promise<MessageInitShape<DescMessage>>;
type StreamFunction = (request: Message, context: CallContext) => AsyncIterable<MessageInitShape<DescMessage>>;

function unary(method: DescMethod, handler: UnaryFunction, guard: CallGuard) {
  return (grpcCall: ServerUnaryCall<Buffer, Buffer>, respond: sendUnaryData<Buffer>): void => {
    void guard.handle(grpcCall.metadata, async (call, context) => {
      try {
        respond(null, encode(method.output, await handler(decode(method, grpcCall.request), context)));
      } catch (error) {
        respond(call.statusOf(error));
      }
    });
  };
}

function stream(method: DescMethod, handler: StreamFunction, guard: CallGuard) {
  return (grpcCall: ServerWritableStream<Buffer, Buffer>): void => {
    void guard.handle(grpcCall.metadata, async (call, context) => {
      try {
        // Leaving this loop, by whatever way, runs the generator's finally blocks.
        for await (const response of handler(decode(method, grpcCall.request), context)) {
          context.signal.throwIfAborted();
          if (grpcCall.write(encode(method.output, response))) continue;
          call.awaitReader();
          await once(grpcCall, "drain", context);
          call.readerCame();
        }
        if (!call.ended) grpcCall.end();
      } catch (error) {
        const { code, details } = call.statusOf(error);
        // grpc-js takes the status of a stream as an error event, and sends it after what was written before.
        if (!call.ended) grpcCall.emit("error", Object.assign(new Error(details), { code, details }));
      }
      // The status goes out behind what was written before it.
      call.awaitReader();
    });
  };
}

function decode(method: DescMethod, bytes: Buffer): Message {
  try {
    // Unknown fields are read past: a newer client may send them, and nothing here forwards messages.
    return fromBinary(method.input, bytes, { readUnknownFields: false });
  } catch (error) {
    throw new ServiceError("MESSAGE_MALFORMED", `the request is not a ${method.input.typeName}`, { cause: error });
  }
}

function encode<Desc extends DescMessage>(schema: Desc, message: MessageInitShape<Desc>): Buffer {
  const bytes = toBinary(schema, create(schema, message) as MessageShape<Desc>);
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function passThrough(bytes: Buffer): Buffer {
  return bytes;
}
