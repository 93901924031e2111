import { type ClientHttp2Session, type ClientHttp2Stream, connect, type IncomingHttpHeaders } from "node:http2";
import { create, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { GenerateRequestSchema, InferenceService } from "@persona-mesh/protocol";
import { methodPath } from "@persona-mesh/service";
import { onTestFinished } from "vitest";

export interface WireCallOptions {
  readonly token: string;
  readonly request: MessageInitShape<typeof GenerateRequestSchema>;
  /** Bytes that the server may send before the client says that it has read some. @default 65,535, that of HTTP/2 */
  readonly window?: number;
  /** Beside those of every call. */
  readonly headers?: Readonly<Record<string, string>>;
}

/** A Generate call as bytes on a connection of its own. What it gets stays unread for as long as nobody listens to `stream`. */
export interface WireCall {
  readonly session: ClientHttp2Session;
  readonly stream: ClientHttp2Stream;
  /** Resolves with the status and what is beside it, `grpc-status` and all, once it is here. */
  readonly trailers: Promise<IncomingHttpHeaders>;
}

/** Gone with its test. @param address - HOST:PORT */
export function openWireCall(address: string, { token, request, window, headers = {} }: WireCallOptions): WireCall {
  const settings = window === undefined ? {} : { settings: { initialWindowSize: window } };
  const session = connect(`http://${address}`, settings);
  // Whoever breaks the connection expects that.
  session.on("error", () => {});
  onTestFinished(() => session.destroy());
  const stream = session.request({
    ":method": "POST",
    ":path": methodPath(InferenceService.method.generate),
    "content-type": "application/grpc",
    te: "trailers",
    authorization: `Bearer ${token}`,
    ...headers,
  });
  stream.on("error", () => {});
  const trailers = new Promise<IncomingHttpHeaders>((resolve) => {
    stream.on("trailers", resolve);
    // A call that is refused has its status in the only headers.
    stream.on("response", (response) => {
      if (response["grpc-status"] !== undefined) resolve(response);
    });
  });
  const message = toBinary(GenerateRequestSchema, create(GenerateRequestSchema, request));
  const prefix = Buffer.alloc(5);
  prefix.writeUInt32BE(message.length, 1);
  stream.end(Buffer.concat([prefix, message]));
  return { session, stream, trailers };
}
