import { closeSync, ftruncateSync, openSync, writeSync } from "node:fs";

// GGUF version 3, little-endian: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md

const MAGIC = 0x46554747;
const VERSION = 3;
/** Bytes that tensors begin at a multiple of, unless the file says otherwise. */
const ALIGNMENT = 32;

/** A value of the header; numbers say how they are stored. */
export type GgufValue =
  | { readonly uint32: number }
  | { readonly float32: number }
  | { readonly bool: boolean }
  | { readonly string: string }
  | { readonly strings: readonly string[] }
  | { readonly float32s: readonly number[] }
  | { readonly int32s: readonly number[] };

const VALUE_TYPE = { uint32: 4, int32: 5, float32: 6, bool: 7, string: 8, array: 9 } as const;

/** Types of tensors, as ggml numbers them. */
export const GGML_TYPE = { F32: 0, Q4_0: 2, Q8_0: 8 } as const;

export type GgmlType = keyof typeof GGML_TYPE;

export interface GgufTensor {
  readonly name: string;
  readonly type: GgmlType;
  /** Rows first, as everywhere here; the file has it the other way round. */
  readonly shape: readonly number[];
  readonly byteLength: number;
  /** Made when it is written, so that one tensor at a time is in memory. */
  readonly bytes: () => Uint8Array;
}

export function writeGguf(
  path: string,
  metadata: Readonly<Record<string, GgufValue>>,
  tensors: readonly GgufTensor[],
): void {
  const header = new ByteWriter();
  header.uint32(MAGIC);
  header.uint32(VERSION);
  header.uint64(tensors.length);
  header.uint64(Object.keys(metadata).length);
  for (const [key, value] of Object.entries(metadata)) {
    header.string(key);
    writeValue(header, value);
  }
  let offset = 0;
  for (const { name, type, shape, byteLength } of tensors) {
    header.string(name);
    header.uint32(shape.length);
    for (const extent of shape.toReversed()) header.uint64(extent);
    header.uint32(GGML_TYPE[type]);
    header.uint64(offset);
    offset = aligned(offset + byteLength);
  }
  const file = openSync(path, "wx");
  try {
    writeAll(file, header.bytes(), 0);
    let at = aligned(header.byteLength);
    for (const { name, byteLength, bytes } of tensors) {
      const made = bytes();
      if (made.byteLength !== byteLength) throw new Error(`${name} has ${made.byteLength} bytes, not ${byteLength}`);
      writeAll(file, made, at);
      at = aligned(at + byteLength);
    }
    // The last tensor is filled up like the others.
    ftruncateSync(file, at);
  } finally {
    closeSync(file);
  }
}

function writeValue(to: ByteWriter, value: GgufValue): void {
  if ("uint32" in value) {
    to.uint32(VALUE_TYPE.uint32);
    to.uint32(value.uint32);
  } else if ("float32" in value) {
    to.uint32(VALUE_TYPE.float32);
    to.float32(value.float32);
  } else if ("bool" in value) {
    to.uint32(VALUE_TYPE.bool);
    to.uint8(value.bool ? 1 : 0);
  } else if ("string" in value) {
    to.uint32(VALUE_TYPE.string);
    to.string(value.string);
  } else if ("strings" in value) {
    writeArray(to, "string", value.strings, (item) => to.string(item));
  } else if ("float32s" in value) {
    writeArray(to, "float32", value.float32s, (item) => to.float32(item));
  } else {
    writeArray(to, "int32", value.int32s, (item) => to.uint32(item >>> 0));
  }
}

function writeArray<T>(
  to: ByteWriter,
  type: keyof typeof VALUE_TYPE,
  items: readonly T[],
  write: (item: T) => void,
): void {
  to.uint32(VALUE_TYPE.array);
  to.uint32(VALUE_TYPE[type]);
  to.uint64(items.length);
  for (const item of items) write(item);
}

function writeAll(file: number, bytes: Uint8Array, position: number): void {
  for (let done = 0; done < bytes.byteLength; ) {
    done += writeSync(file, bytes, done, bytes.byteLength - done, position + done);
  }
}

function aligned(offset: number): number {
  return Math.ceil(offset / ALIGNMENT) * ALIGNMENT;
}

/** Little-endian values one after the other. */
class ByteWriter {
  #bytes = new Uint8Array(1 << 20);
  #view = new DataView(this.#bytes.buffer);
  #length = 0;

  get byteLength(): number {
    return this.#length;
  }

  bytes(): Uint8Array {
    return this.#bytes.subarray(0, this.#length);
  }

  uint8(value: number): void {
    const at = this.#claim(1);
    this.#view.setUint8(at, value);
  }

  uint32(value: number): void {
    const at = this.#claim(4);
    this.#view.setUint32(at, value, true);
  }

  uint64(value: number): void {
    const at = this.#claim(8);
    this.#view.setBigUint64(at, BigInt(value), true);
  }

  float32(value: number): void {
    const at = this.#claim(4);
    this.#view.setFloat32(at, value, true);
  }

  string(value: string): void {
    const bytes = new TextEncoder().encode(value);
    this.uint64(bytes.byteLength);
    const at = this.#claim(bytes.byteLength);
    this.#bytes.set(bytes, at);
  }

  /** @returns where the next `count` bytes begin, in buffers that may be others than before */
  #claim(count: number): number {
    const at = this.#length;
    this.#length += count;
    if (this.#length > this.#bytes.byteLength) {
      const larger = new Uint8Array(2 * this.#length);
      larger.set(this.#bytes);
      this.#bytes = larger;
      this.#view = new DataView(larger.buffer);
    }
    return at;
  }
}
