import { connect, constants } from "node:http2";
import { fromBinary } from "@bufbuild/protobuf";
import { anyUnpack } from "@bufbuild/protobuf/wkt";
import { ErrorInfoSchema, StatusSchema } from "@persona-mesh/protocol";

/** How a call ended that was made without any gRPC library, so that nothing stands between a test and the wire. */
export interface RawResult {
  readonly httpStatus: number | undefined;
  readonly code: number | undefined;
  readonly message: string;
  /** Of our ErrorInfo. */
  readonly reason: string | undefined;
  readonly body: Buffer;
}

export interface RawCall {
  readonly path: string;
  readonly headers?: Readonly<Record<string, string | string[]>>;
  /** Sent as it is. */
  readonly body?: Buffer;
}

/** Send headers and bytes over HTTP/2 and read what comes back. */
export async function rawCall(port: number, { path, headers = {}, body }: RawCall): Promise<RawResult> {
  const session = connect(`http://127.0.0.1:${port}`);
  session.on("error", () => {});
  try {
    return await new Promise((resolve, reject) => {
      const stream = session.request({
        ":method": "POST",
        ":path": path,
        "content-type": "application/grpc",
        te: "trailers",
        ...headers,
      });
      const received: Record<string, unknown> = {};
      const chunks: Buffer[] = [];
      stream.on("response", (response) => Object.assign(received, response));
      stream.on("trailers", (trailers) => Object.assign(received, trailers));
      stream.on("data", (chunk: Buffer) => chunks.push(chunk));
      stream.on("error", (error) => {
        if (stream.rstCode === constants.NGHTTP2_NO_ERROR) reject(error);
      });
      stream.on("close", () => resolve(resultOf(received, Buffer.concat(chunks))));
      // The server may answer before it has read everything.
      stream.end(body);
    });
  } finally {
    session.destroy();
  }
}

/** A message with its gRPC frame: a flag whether it is compressed, its length, its bytes. */
export function frame(message: Uint8Array, isCompressed = false): Buffer {
  const head = Buffer.alloc(5);
  head.writeUInt8(isCompressed ? 1 : 0, 0);
  head.writeUInt32BE(message.length, 1);
  return Buffer.concat([head, message]);
}

function resultOf(headers: Readonly<Record<string, unknown>>, body: Buffer): RawResult {
  const details = headers["grpc-status-details-bin"];
  const status = typeof details === "string" ? fromBinary(StatusSchema, Buffer.from(details, "base64")) : undefined;
  return {
    httpStatus: headers[":status"] as number | undefined,
    code: headers["grpc-status"] === undefined ? undefined : Number(headers["grpc-status"]),
    message: decodeURIComponent(String(headers["grpc-message"] ?? "")),
    reason: status?.details.map((detail) => anyUnpack(detail, ErrorInfoSchema)).find((info) => info !== undefined)
      ?.reason,
    body,
  };
}
