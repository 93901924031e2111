/** GGUF files spelt out field by field, as nobody's library would write them; for tests only. */

export interface TensorSpec {
  readonly name: string;
  readonly shape?: readonly (number | bigint)[];
  /** @default 0, F32 */
  readonly type?: number;
  readonly offset?: number | bigint;
}

export interface GgufSpec {
  readonly version?: number;
  readonly tensorCount?: number | bigint;
  readonly keyCount?: number | bigint;
  /** Whole entries: key, type, value. */
  readonly keys?: readonly Buffer[];
  readonly tensors?: readonly TensorSpec[];
  /** Of the data. @default what float32 vectors of the width take, each padded to 32 */
  readonly dataBytes?: number;
}

export const WIDTH = 20;
const STRIDE = 96;

export const ARCHITECTURE = textKey("general.architecture", "controlvector");

/** A file of good parts, but for those that are given. */
export function ggufFile(spec: GgufSpec = {}): Uint8Array {
  const { version = 3, keys = [ARCHITECTURE], tensors = [{ name: "direction.1" }, { name: "direction.2" }] } = spec;
  const header = Buffer.concat([
    Buffer.from("GGUF"),
    u32(version),
    u64(spec.tensorCount ?? tensors.length),
    u64(spec.keyCount ?? keys.length),
    ...keys,
    ...tensors.flatMap(({ name, shape = [WIDTH], type = 0, offset }, i) => [
      text(name),
      u32(shape.length),
      ...shape.map(u64),
      u32(type),
      u64(offset ?? i * STRIDE),
    ]),
  ]);
  const data = Buffer.alloc(spec.dataBytes ?? tensors.length * STRIDE);
  for (let i = 0; i + 4 <= data.length; i += 4) data.writeFloatLE(Math.sin(i + 1), i);
  return new Uint8Array(
    Buffer.concat([header, Buffer.alloc(Math.ceil(header.length / 32) * 32 - header.length), data]),
  );
}

export function textKey(key: string, value: string): Buffer {
  return Buffer.concat([text(key), u32(8), text(value)]);
}

export function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

export function u64(value: number | bigint): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
}

export function text(value: string): Buffer {
  return Buffer.concat([u64(Buffer.byteLength(value)), Buffer.from(value)]);
}
