import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { BinaryReader, WireType } from "@bufbuild/protobuf/wire";

/** A span as it came over the wire. */
export interface ReceivedSpan {
  readonly service: string;
  readonly traceId: string;
  readonly spanId: string;
  /** Empty for a root. */
  readonly parentSpanId: string;
  readonly name: string;
  /** As the protocol numbers them: 2 server, 3 client. */
  readonly kind: number;
  readonly attributes: Readonly<Record<string, string | number | boolean>>;
  /** 0 unset, 2 error. */
  readonly status: number;
  readonly statusMessage: string;
}

/** A collector of the test's own: takes what OpenTelemetry's exporter sends, and reads the protobuf without its code. */
export interface OtlpReceiver {
  readonly endpoint: string;
  readonly spans: readonly ReceivedSpan[];
  /** Everything that was received, to look for what must not be in it. */
  readonly bytes: () => Buffer;
  close(): Promise<void>;
}

export async function startOtlpReceiver(): Promise<OtlpReceiver> {
  const spans: ReceivedSpan[] = [];
  const bodies: Buffer[] = [];
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", () => {
      const body = Buffer.concat(chunks);
      bodies.push(body);
      if (request.url === "/v1/traces") spans.push(...readRequest(body));
      response.writeHead(200, { "content-type": "application/x-protobuf" }).end();
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    endpoint: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    spans,
    bytes: () => Buffer.concat(bodies),
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

/** The fields of a message by number: varints and 64-bit values as numbers, everything with a length as bytes. */
type Fields = Map<number, (Uint8Array | number)[]>;

function fieldsOf(bytes: Uint8Array): Fields {
  const reader = new BinaryReader(bytes);
  const fields: Fields = new Map();
  while (reader.pos < reader.len) {
    const [number, wireType] = reader.tag();
    const value = readValue(reader, wireType);
    fields.set(number, [...(fields.get(number) ?? []), value]);
  }
  return fields;
}

function readValue(reader: BinaryReader, wireType: WireType): Uint8Array | number {
  switch (wireType) {
    case WireType.Varint:
      return Number(reader.int64());
    case WireType.Bit64:
      return reader.double();
    case WireType.Bit32:
      return reader.fixed32();
    case WireType.LengthDelimited:
      return reader.bytes();
    default:
      throw new Error(`wire type ${wireType} is not in the protocol`);
  }
}

const children = (fields: Fields, number: number) =>
  (fields.get(number) ?? []).map((value) => fieldsOf(value as Uint8Array));
const bytesAt = (fields: Fields, number: number) => Buffer.from((fields.get(number)?.[0] as Uint8Array) ?? []);
const numberAt = (fields: Fields, number: number) => (fields.get(number)?.[0] as number) ?? 0;

function readRequest(body: Buffer): ReceivedSpan[] {
  return children(fieldsOf(body), 1).flatMap((resourceSpans) => {
    const resource = children(resourceSpans, 1)[0] ?? new Map();
    const service = String(attributesOf(resource, 1)["service.name"]);
    return children(resourceSpans, 2).flatMap((scope) =>
      children(scope, 2).map((span) => {
        const status = children(span, 15)[0] ?? new Map();
        return {
          service,
          traceId: bytesAt(span, 1).toString("hex"),
          spanId: bytesAt(span, 2).toString("hex"),
          parentSpanId: bytesAt(span, 4).toString("hex"),
          name: bytesAt(span, 5).toString(),
          kind: numberAt(span, 6),
          attributes: attributesOf(span, 9),
          status: numberAt(status, 3),
          statusMessage: bytesAt(status, 2).toString(),
        };
      }),
    );
  });
}

function attributesOf(fields: Fields, number: number): Record<string, string | number | boolean> {
  return Object.fromEntries(
    children(fields, number).map((pair) => {
      const value = children(pair, 2)[0] ?? new Map();
      const [kind, values] = [...value][0] ?? [1, [new Uint8Array()]];
      const [first] = values as [Uint8Array | number];
      return [
        bytesAt(pair, 1).toString(),
        kind === 1 ? Buffer.from(first as Uint8Array).toString() : kind === 2 ? first === 1 : (first as number),
      ];
    }),
  );
}
