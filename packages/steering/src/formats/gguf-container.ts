import { MAX_LAYER_COUNT } from "../vector-manifest.ts";
import { ByteReader } from "./byte-reader.ts";
import { ELEMENT_BYTES, type ElementType } from "./element-type.ts";
import { quoted, refuse } from "./refuse.ts";

/**
 * The GGUF container, little-endian, versions 2 and 3: magic, version, counts of tensors and keys; the keys with their
 * values; name, shape, type and offset of each tensor; padding to the alignment; the data.
 *
 * Read as strictly as ggml reads it: tensors lie one behind the other in the order of their entries, each padded to the
 * alignment, so that none overlaps another, none is beyond the file and no byte of data is without an owner.
 */

export interface GgufFile {
  readonly metadata: GgufMetadata;
  readonly tensors: readonly GgufTensor[];
}

/** By key: texts and uint32, which are all that is asked for; undefined for a value of another type. */
export type GgufMetadata = ReadonlyMap<string, string | number | undefined>;

export interface GgufTensor {
  readonly name: string;
  readonly type: ElementType;
  /** Innermost first. */
  readonly shape: readonly number[];
  /** Bytes from the start of the file. */
  readonly start: number;
}

export const GGUF_MAGIC = "GGUF";
export const DEFAULT_ALIGNMENT = 32;

/** All before the data: 512 entries take 40 KiB; the rest is room for what producers say about themselves. */
const MAX_HEADER_BYTES = 1 << 20;

/** Keys: most producers write about five, EasySteer once wrote several figures for every layer. */
const MAX_KEYS = 4096;
const MAX_KEY_BYTES = 256;

/** ggml's own limit is 63. */
const MAX_TENSOR_NAME_BYTES = 64;

/** ggml's limit. */
const MAX_DIMENSIONS = 4;

/** Larger ones are legal, but nobody writes them, and padding is allocated by whoever reads. */
const MAX_ALIGNMENT = 4096;

/** Numbers of the element types in the file; all others are packed formats of weights. */
const ELEMENT_TYPES: ReadonlyMap<number, ElementType> = new Map([
  [0, "F32"],
  [1, "F16"],
  [30, "BF16"],
]);

/**
 * Read the header of a file, and check that the data behind it is all there.
 *
 * @throws SteeringError VECTOR_HEADER_INVALID, VECTOR_TENSORS_INVALID, VECTOR_FILE_TRUNCATED, VECTOR_FILE_TOO_LARGE
 */
export function readGgufContainer(bytes: Uint8Array): GgufFile {
  const reader = new ByteReader(bytes.subarray(0, MAX_HEADER_BYTES), () =>
    bytes.length > MAX_HEADER_BYTES
      ? refuse("VECTOR_FILE_TOO_LARGE", `the GGUF header is over the limit of ${MAX_HEADER_BYTES} bytes`)
      : refuse("VECTOR_FILE_TRUNCATED", `the GGUF header goes on past the end of the file, ${bytes.length} bytes`),
  );
  reader.skip(GGUF_MAGIC.length);
  requireVersion(reader.u32());
  const tensorCount = reader.u64();
  const keyCount = reader.u64();
  if (tensorCount < 1 || tensorCount > MAX_LAYER_COUNT) {
    refuse("VECTOR_TENSORS_INVALID", `${tensorCount} tensors; a control vector has 1 to ${MAX_LAYER_COUNT}`);
  }
  if (keyCount > MAX_KEYS) refuse("VECTOR_HEADER_INVALID", `${keyCount} keys are over the limit ${MAX_KEYS}`);
  const metadata = readMetadata(reader, keyCount);
  const entries = Array.from({ length: tensorCount }, () => readTensorEntry(reader));
  return { metadata, tensors: placeTensors(entries, reader.position, alignmentOf(metadata), bytes.length) };
}

function requireVersion(version: number): void {
  if (version === 2 || version === 3) return;
  const why = version % 0x1_00_00_00 === 0 ? "it is big-endian" : "versions 2 and 3 are read";
  refuse("VECTOR_HEADER_INVALID", `GGUF version ${version}: ${why}`);
}

function readMetadata(reader: ByteReader, count: number): GgufMetadata {
  const metadata = new Map<string, string | number | undefined>();
  for (let i = 0; i < count; i++) {
    const key = reader.text(MAX_KEY_BYTES, "a key");
    if (metadata.has(key)) refuse("VECTOR_HEADER_INVALID", `the key ${quoted(key)} is there twice`);
    metadata.set(key, readValue(reader, reader.u32(), key));
  }
  return metadata;
}

/** Bytes of the values that have a fixed size, by the number of their type. */
const VALUE_BYTES: ReadonlyMap<number, number> = new Map([
  [0, 1], // uint8
  [1, 1], // int8
  [2, 2], // uint16
  [3, 2], // int16
  [4, 4], // uint32
  [5, 4], // int32
  [6, 4], // float32
  [7, 1], // bool
  [10, 8], // uint64
  [11, 8], // int64
  [12, 8], // float64
]);
const UINT32 = 4;
const TEXT = 8;
const ARRAY = 9;

function readValue(reader: ByteReader, type: number, key: string): string | number | undefined {
  if (type === UINT32) return reader.u32();
  if (type === TEXT) return reader.text(MAX_HEADER_BYTES, `the value of ${quoted(key)}`);
  const size = VALUE_BYTES.get(type);
  if (size !== undefined) reader.skip(size);
  else if (type === ARRAY) skipArray(reader, key);
  else refuse("VECTOR_HEADER_INVALID", `${quoted(key)} has a value of type ${type}`);
  return undefined;
}

function skipArray(reader: ByteReader, key: string): void {
  const type = reader.u32();
  const count = reader.u64();
  const size = VALUE_BYTES.get(type);
  if (size !== undefined) {
    reader.skip(count * size);
  } else if (type === TEXT) {
    // Ends with the header at the latest: every text takes eight bytes for its length.
    for (let i = 0; i < count; i++) reader.skip(reader.u64());
  } else {
    refuse("VECTOR_HEADER_INVALID", `${quoted(key)} is a list of type ${type}`);
  }
}

interface TensorEntry extends Omit<GgufTensor, "start"> {
  /** Bytes from the start of the data. */
  readonly offset: number;
}

function readTensorEntry(reader: ByteReader): TensorEntry {
  const name = reader.text(MAX_TENSOR_NAME_BYTES, "a tensor's name");
  const dimensions = reader.u32();
  if (dimensions < 1 || dimensions > MAX_DIMENSIONS) {
    refuse("VECTOR_TENSORS_INVALID", `tensor ${quoted(name)} has ${dimensions} dimensions`);
  }
  const shape = Array.from({ length: dimensions }, () => reader.u64());
  const number = reader.u32();
  const type = ELEMENT_TYPES.get(number);
  if (type === undefined) {
    return refuse("VECTOR_TENSORS_INVALID", `tensor ${quoted(name)} has element type ${number}, not F32, F16 or BF16`);
  }
  return { name, shape, type, offset: reader.u64() };
}

function alignmentOf(metadata: GgufMetadata): number {
  if (!metadata.has("general.alignment")) return DEFAULT_ALIGNMENT;
  const alignment = metadata.get("general.alignment");
  if (
    typeof alignment === "number" &&
    alignment >= 8 &&
    alignment <= MAX_ALIGNMENT &&
    Number.isInteger(Math.log2(alignment))
  )
    return alignment;
  return refuse("VECTOR_HEADER_INVALID", `general.alignment is not a power of two from 8 to ${MAX_ALIGNMENT}`);
}

function placeTensors(
  entries: readonly TensorEntry[],
  headerEnd: number,
  alignment: number,
  fileBytes: number,
): GgufTensor[] {
  const dataStart = padded(headerEnd, alignment);
  let end = 0;
  let next = 0;
  const tensors = entries.map(({ offset, ...tensor }) => {
    if (offset !== next) {
      refuse(
        "VECTOR_TENSORS_INVALID",
        `tensor ${quoted(tensor.name)} is at offset ${offset}, not behind the last at ${next}`,
      );
    }
    // At most 2^53 each: the product may lose digits, but not its size.
    end = offset + tensor.shape.reduce((product, size) => product * size, ELEMENT_BYTES[tensor.type]);
    next = padded(end, alignment);
    return { ...tensor, start: dataStart + offset };
  });
  if (fileBytes < dataStart + end || fileBytes > dataStart + next) {
    const found = `${fileBytes} bytes where the tensors end at ${dataStart + end}`;
    refuse(fileBytes < dataStart + end ? "VECTOR_FILE_TRUNCATED" : "VECTOR_TENSORS_INVALID", found);
  }
  return tensors;
}

/** The next multiple of the alignment. */
export function padded(position: number, alignment: number): number {
  return Math.ceil(position / alignment) * alignment;
}
