import { CheckpointError } from "../errors.ts";
import { quote } from "./quote.ts";
import { parseStrictJson } from "./strict-json.ts";

/**
 * The header of a safetensors file: eight bytes of header length (little-endian), a JSON object that places every
 * tensor, then the tensors' bytes (https://github.com/huggingface/safetensors, "Format").
 */

/**
 * A larger header is an attempt to exhaust memory. The reference reader allows 100 MB; the deepest decoder that is supported
 * has 17,000 tensors, which take 2.5 MB.
 */
export const MAX_HEADER_BYTES = 16 * 1024 * 1024;

/** Values in a header of that size that is about tensors; in one that is not, they could take a gigabyte. */
const MAX_HEADER_VALUES = 1_000_000;

/** The format knows no limit; weights of decoders have at most 2, convolutions 5. */
const MAX_DIMENSIONS = 8;

/** Bits per element of the dtypes the format knows. */
const DTYPE_BITS = {
  F4: 4,
  F6_E2M3: 6,
  F6_E3M2: 6,
  BOOL: 8,
  U8: 8,
  I8: 8,
  F8_E4M3: 8,
  F8_E4M3FNUZ: 8,
  F8_E5M2: 8,
  F8_E5M2FNUZ: 8,
  F8_E8M0: 8,
  U16: 16,
  I16: 16,
  F16: 16,
  BF16: 16,
  U32: 32,
  I32: 32,
  F32: 32,
  U64: 64,
  I64: 64,
  F64: 64,
  C64: 64,
} as const;

export type SafetensorsDtype = keyof typeof DTYPE_BITS;

/** Where a tensor lies. `offset` counts from the start of the file. */
export interface TensorEntry {
  readonly name: string;
  readonly dtype: SafetensorsDtype;
  readonly shape: readonly number[];
  readonly offset: number;
  readonly byteLength: number;
}

type Corrupt = (what: string, cause?: unknown) => CheckpointError;

/**
 * Check a header against the file it came from: every tensor in range, none overlapping, no bytes left unclaimed.
 *
 * @param json - the header's text, UTF-8
 * @param fileBytes - size of the whole file
 * @param file - its name, for messages
 * @returns tensors in file order
 * @throws CheckpointError CHECKPOINT_CORRUPT naming the tensor and what is wrong with it
 */
export function parseSafetensorsHeader(json: Uint8Array, fileBytes: number, file: string): TensorEntry[] {
  const corrupt: Corrupt = (what, cause) =>
    new CheckpointError("CHECKPOINT_CORRUPT", `${quote(file)}: ${what}`, { cause });
  let header: unknown;
  try {
    const text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(json);
    header = parseStrictJson(text, MAX_HEADER_VALUES);
  } catch (error) {
    throw corrupt(`the header is not valid JSON: ${(error as Error).message}`, error);
  }
  if (!isRecord(header)) throw corrupt("the header is not a JSON object");

  const dataStart = 8 + json.byteLength;
  const entries: TensorEntry[] = [];
  for (const [name, value] of Object.entries(header)) {
    if (name !== "__metadata__") entries.push(parseEntry(name, value, dataStart, fileBytes, corrupt));
    else if (!isRecord(value) || Object.values(value).some((text) => typeof text !== "string")) {
      throw corrupt("__metadata__ is not a map of strings");
    }
  }
  // A tensor without elements takes no room, so it sorts before the neighbour that starts where it stands.
  entries.sort((a, b) => a.offset - b.offset || a.byteLength - b.byteLength);

  let end = dataStart;
  let previous = "the header";
  for (const entry of entries) {
    const tensor = `tensor ${quote(entry.name)}`;
    if (entry.offset < end) throw corrupt(`${tensor} overlaps ${previous}`);
    if (entry.offset > end) throw corrupt(`${entry.offset - end} bytes before ${tensor} belong to none`);
    end += entry.byteLength;
    previous = tensor;
  }
  if (end !== fileBytes) throw corrupt(`${fileBytes - end} bytes after ${previous} belong to no tensor`);
  return entries;
}

function parseEntry(name: string, value: unknown, dataStart: number, fileBytes: number, corrupt: Corrupt): TensorEntry {
  const wrong = (what: string) => corrupt(`tensor ${quote(name)}: ${what}`);
  if (!isRecord(value)) throw wrong("is not described by an object");
  const { dtype, shape, data_offsets, ...rest } = value;
  const [surplus] = Object.keys(rest);
  if (surplus !== undefined) throw wrong(`${quote(surplus)} is not a field of a tensor`);
  if (!isDtype(dtype)) throw wrong(`dtype ${quote(dtype)} is not known`);
  if (!isSizes(shape) || shape.length > MAX_DIMENSIONS)
    throw wrong(`shape is not a list of up to ${MAX_DIMENSIONS} sizes`);
  if (!isSizes(data_offsets) || data_offsets.length !== 2) throw wrong("data_offsets are not two positions");
  const [begin, end] = data_offsets as [number, number];
  const elements = shape.reduce((product, dimension) => product * dimension, 1);
  const byteLength = (elements * DTYPE_BITS[dtype]) / 8;
  if (!Number.isSafeInteger(elements)) throw wrong(`shape [${shape}] has too many elements`);
  if (end < begin || dataStart + end > fileBytes) {
    throw wrong(`bytes ${begin}..${end} are not within the file's ${Math.max(0, fileBytes - dataStart)} bytes of data`);
  }
  if (end - begin !== byteLength) throw wrong(`${dtype} [${shape}] takes ${byteLength} bytes, not ${end - begin}`);
  return { name, dtype, shape, offset: dataStart + begin, byteLength };
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isDtype(value: unknown): value is SafetensorsDtype {
  return typeof value === "string" && Object.hasOwn(DTYPE_BITS, value);
}

function isSizes(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((size) => Number.isSafeInteger(size) && size >= 0);
}
