import { MAX_HEADER_BYTES } from "../vector-file.ts";
import { MAX_LAYER_COUNT } from "../vector-manifest.ts";
import { ELEMENT_BYTES, type ElementType } from "./element-type.ts";
import { directionNumber, type StoredVector } from "./read-gguf.ts";
import { quoted, refuse } from "./refuse.ts";

/**
 * Foreign control vectors in safetensors. There is no convention as with GGUF; two layouts are read:
 *
 * - tensors `direction.N`, [hidden] each, N the 0-based block;
 * - one matrix [layers, hidden] under any name, row l for block l. One with a row more (Hugging Face's `hidden_states`, whose
 *   row 0 are the embeddings) is refused, since nothing tells it from a matrix of another model.
 */

const METADATA = "__metadata__";
export const LENGTH_BYTES = 8;

interface Entry {
  readonly name: string;
  readonly type: ElementType;
  readonly shape: readonly number[];
  /** Bytes from the start of the file, first and past the last. */
  readonly start: number;
  readonly end: number;
}

/**
 * The directions of a safetensors file.
 *
 * @param matrix - name of the tensor to read where there are several and none is `direction.N`
 * @throws SteeringError VECTOR_HEADER_INVALID, VECTOR_TENSORS_INVALID, VECTOR_FILE_TOO_LARGE, VECTOR_FILE_TRUNCATED;
 *   VECTOR_FORMAT_UNKNOWN for one of our own versions
 */
export function readSafetensors(bytes: Uint8Array, layerCount: number, matrix?: string): StoredVector {
  const { entries, metadata } = readEntries(bytes);
  if (Object.hasOwn(metadata, "manifest")) {
    refuse("VECTOR_FORMAT_UNKNOWN", "is a version of this mesh, with its manifest; publish it as it is");
  }
  const hint = Object.hasOwn(metadata, "model_hint") ? metadata["model_hint"] : undefined;
  if (hint !== undefined && typeof hint !== "string") refuse("VECTOR_HEADER_INVALID", "the model hint is not text");
  const directions =
    matrix === undefined && entries.some(({ name }) => directionNumber(name) !== undefined)
      ? entries.map(namedDirection)
      : matrixRows(matrixEntry(entries, matrix), layerCount);
  return { directions, ...(hint === undefined ? {} : { modelHint: hint }) };
}

function namedDirection({ name, type, shape, start }: Entry): StoredVector["directions"][number] {
  const number = directionNumber(name);
  if (number === undefined) {
    return refuse("VECTOR_TENSORS_INVALID", `tensor ${quoted(name)} beside directions; name the one to be read`);
  }
  if (shape.length !== 1) refuse("VECTOR_TENSORS_INVALID", `${name} has ${shape.length} dimensions, not 1`);
  return { number, type, start, width: shape[0] as number };
}

function matrixEntry(entries: readonly Entry[], matrix: string | undefined): Entry {
  const chosen = matrix === undefined ? entries : entries.filter(({ name }) => name === matrix);
  const [entry] = chosen;
  if (entry === undefined) return refuse("VECTOR_TENSORS_INVALID", `there is no tensor ${quoted(matrix ?? "")}`);
  if (chosen.length > 1) {
    refuse("VECTOR_TENSORS_INVALID", `${chosen.length} tensors, none of them a direction.N; name the one to be read`);
  }
  return entry;
}

function matrixRows({ name, type, shape, start }: Entry, layerCount: number): StoredVector["directions"] {
  const [rows, width] = shape;
  if (shape.length !== 2 || rows !== layerCount || width === undefined) {
    const is = `tensor ${quoted(name)} is [${shape.join(", ")}]`;
    return refuse("VECTOR_TENSORS_INVALID", `${is}, not [layers, hidden] of the model's ${layerCount} blocks`);
  }
  return Array.from({ length: rows }, (_, number) => ({
    number,
    type,
    width,
    start: start + number * width * ELEMENT_BYTES[type],
  }));
}

function readEntries(bytes: Uint8Array): { entries: Entry[]; metadata: Readonly<Record<string, unknown>> } {
  const headerBytes = headerLengthOf(bytes);
  if (headerBytes > MAX_HEADER_BYTES) {
    refuse("VECTOR_FILE_TOO_LARGE", `a header of ${headerBytes} bytes is over the limit ${MAX_HEADER_BYTES}`);
  }
  const dataStart = LENGTH_BYTES + headerBytes;
  if (dataStart > bytes.length) {
    refuse("VECTOR_FILE_TRUNCATED", `a header of ${headerBytes} bytes in a file of ${bytes.length}`);
  }
  const { [METADATA]: metadata = {}, ...tensors } = parseHeader(bytes.subarray(LENGTH_BYTES, dataStart));
  const named = Object.entries(tensors);
  if (named.length < 1 || named.length > MAX_LAYER_COUNT) {
    refuse("VECTOR_TENSORS_INVALID", `${named.length} tensors; a control vector has 1 to ${MAX_LAYER_COUNT}`);
  }
  if (!isObject(metadata)) return refuse("VECTOR_HEADER_INVALID", `${METADATA} is not an object`);
  const entries = named.map(([name, entry]) => parseEntry(name, entry, dataStart)).sort((a, b) => a.start - b.start);
  requireTiled(entries, dataStart, bytes.length);
  return { entries, metadata };
}

/** Length of the JSON header as a file's first eight bytes have it; Infinity where there are not as many. */
export function headerLengthOf(bytes: Uint8Array): number {
  if (bytes.length < LENGTH_BYTES) return Number.POSITIVE_INFINITY;
  return Number(new DataView(bytes.buffer, bytes.byteOffset, LENGTH_BYTES).getBigUint64(0, true));
}

function parseHeader(bytes: Uint8Array): Readonly<Record<string, unknown>> {
  let header: unknown;
  try {
    header = JSON.parse(new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes));
  } catch {
    return refuse("VECTOR_HEADER_INVALID", "the header is not JSON in UTF-8");
  }
  return isObject(header) ? header : refuse("VECTOR_HEADER_INVALID", "the header is not an object");
}

function parseEntry(name: string, entry: unknown, dataStart: number): Entry {
  const { dtype, shape, data_offsets: offsets } = isObject(entry) ? entry : {};
  if (dtype !== "F32" && dtype !== "F16" && dtype !== "BF16") {
    return refuse("VECTOR_TENSORS_INVALID", `tensor ${quoted(name)} is not of F32, F16 or BF16`);
  }
  if (!isCounts(shape) || shape.length > 2 || !isCounts(offsets) || offsets.length !== 2) {
    return refuse("VECTOR_TENSORS_INVALID", `tensor ${quoted(name)} has no shape of 1 or 2 sizes, or no place`);
  }
  const [first, past] = offsets as [number, number];
  if (past - first !== shape.reduce((product, size) => product * size, ELEMENT_BYTES[dtype])) {
    const place = `tensor ${quoted(name)} lies in ${past - first} bytes`;
    refuse("VECTOR_TENSORS_INVALID", `${place}, which its shape [${shape.join(", ")}] of ${dtype} does not take`);
  }
  return { name, type: dtype, shape, start: dataStart + first, end: dataStart + past };
}

/** Every byte of data belongs to one tensor: nothing overlaps, nothing is hidden, and no key was said twice. */
function requireTiled(entries: readonly Entry[], dataStart: number, fileBytes: number): void {
  let next = dataStart;
  for (const { name, start, end } of entries) {
    if (start !== next) refuse("VECTOR_TENSORS_INVALID", `tensor ${quoted(name)} overlaps another or leaves a gap`);
    next = end;
  }
  if (fileBytes < next) refuse("VECTOR_FILE_TRUNCATED", `${fileBytes} bytes where the tensors end at ${next}`);
  if (fileBytes > next) refuse("VECTOR_TENSORS_INVALID", `${fileBytes - next} bytes behind the last tensor`);
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isCounts(value: unknown): value is readonly number[] {
  return Array.isArray(value) && value.length > 0 && value.every((item) => Number.isSafeInteger(item) && item >= 0);
}
