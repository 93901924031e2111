import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { BinaryReader, WireType } from "@bufbuild/protobuf/wire";

type AttributeValue = string | number | boolean | readonly string[];

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
  readonly attributes: Readonly<Record<string, AttributeValue>>;
  /** Milliseconds since the epoch. */
  readonly start: number;
  readonly end: number;
  readonly events: readonly ReceivedEvent[];
  /** 0 unset, 2 error. */
  readonly status: number;
  readonly statusMessage: string;
}

export interface ReceivedEvent {
  readonly name: string;
  /** Milliseconds since the epoch. */
  readonly at: number;
  readonly attributes: ReceivedSpan["attributes"];
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

/** The fields of a message by number: varints as numbers, everything with a length and 64-bit values as bytes. */
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
      // A time or a double: who reads the field knows.
      return eightBytes(reader.fixed64());
    case WireType.Bit32:
      return reader.fixed32();
    case WireType.LengthDelimited:
      return reader.bytes();
    default:
      throw new Error(`wire type ${wireType} is not in the protocol`);
  }
}

function eightBytes(value: bigint | string): Uint8Array {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
}

const children = (fields: Fields, number: number) =>
  (fields.get(number) ?? []).map((value) => fieldsOf(value as Uint8Array));
const bytesAt = (fields: Fields, number: number) => Buffer.from((fields.get(number)?.[0] as Uint8Array) ?? []);
const numberAt = (fields: Fields, number: number) => (fields.get(number)?.[0] as number) ?? 0;
/** Nanoseconds since the epoch, as milliseconds: exact to a quarter of a microsecond. */
const millisAt = (fields: Fields, number: number) => Number(bytesAt(fields, number).readBigUInt64LE()) / 1e6;

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
          start: millisAt(span, 7),
          end: millisAt(span, 8),
          events: children(span, 11).map((event) => ({
            name: bytesAt(event, 2).toString(),
            at: millisAt(event, 1),
            attributes: attributesOf(event, 3),
          })),
          status: numberAt(status, 3),
          statusMessage: bytesAt(status, 2).toString(),
        };
      }),
    );
  });
}

function attributesOf(fields: Fields, number: number): ReceivedSpan["attributes"] {
  return Object.fromEntries(
    children(fields, number).map((pair) => [
      bytesAt(pair, 1).toString(),
      attributeOf(children(pair, 2)[0] ?? new Map()),
    ]),
  );
}

/** The kinds of values that we send: text, booleans, integers, doubles and lists of them. */
function attributeOf(value: Fields): AttributeValue {
  const [[kind, [first]] = [1, [new Uint8Array()]]] = value as Map<number, [Uint8Array | number]>;
  if (typeof first === "number") return kind === 2 ? first === 1 : first;
  if (kind === 4) return Buffer.from(first).readDoubleLE();
  if (kind === 5) return children(fieldsOf(first), 1).map((item) => String(attributeOf(item)));
  return Buffer.from(first).toString();
}
