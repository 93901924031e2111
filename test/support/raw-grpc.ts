import { Client, credentials, Metadata, type ServiceError, type StatusObject } from "@grpc/grpc-js";

export interface RawCall {
  /** `package.Service/Method` with a slash in front. */
  readonly path: string;
  /** The message, as it is. */
  readonly bytes: Uint8Array;
  readonly metadata?: Readonly<Record<string, string>>;
}

export interface RawAnswer {
  readonly status: Pick<StatusObject, "code" | "details" | "metadata">;
  readonly messages: readonly Buffer[];
}

/** A gRPC client that knows no protos: bytes out, bytes and status in. */
export async function rawCall(address: string, { path, bytes, metadata = {} }: RawCall): Promise<RawAnswer> {
  const client = new Client(address, credentials.createInsecure());
  try {
    const headers = new Metadata();
    for (const [key, value] of Object.entries(metadata)) headers.set(key, value);
    const same = (buffer: Buffer) => buffer;
    const call = client.makeServerStreamRequest(path, same, same, Buffer.from(bytes), headers);
    const messages: Buffer[] = [];
    call.on("data", (message: Buffer) => messages.push(message));
    return await new Promise((resolve) => {
      // A failed call says so twice, as an error and as a status; both say the same.
      call.on("error", (_: ServiceError) => {});
      call.on("status", (status: StatusObject) => resolve({ status, messages }));
    });
  } finally {
    client.close();
  }
}
