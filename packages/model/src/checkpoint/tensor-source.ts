import { createHash } from "node:crypto";
import type { FileHandle } from "node:fs/promises";
import { CheckpointError } from "../errors.ts";
import { ELEMENT_BYTES, type ElementType, elementAt, findNonFinite } from "./element-types.ts";
import { readExactly } from "./file-reads.ts";
import { quote } from "./quote.ts";

/** A tensor of a checkpoint and where its bytes lie; plain data, so that it can be sent to another thread. */
export interface TensorSource {
  readonly name: string;
  readonly dtype: ElementType;
  readonly shape: readonly number[];
  /** Absolute path of the file, links resolved. */
  readonly path: string;
  /** Name of the file in the checkpoint, for messages. */
  readonly file: string;
  /** First byte, from the start of the file. */
  readonly offset: number;
  readonly byteLength: number;
}

/** Bytes visited at a time: large enough that calls cost nothing, small enough to stay in the processor's cache. */
const SLICE_BYTES = 1024 * 1024;

/**
 * Read a tensor from its first to its last byte, in slices of whole elements, and refuse what is no finite number.
 *
 * @param file - open on `tensor.path`
 * @param visit - sees each slice, row-major little-endian, and the index of its first element; the bytes are only valid
 *   until it returns
 * @returns sha256 of all bytes, hexadecimal
 * @throws CheckpointError CHECKPOINT_NOT_FINITE at the first NaN or infinity, CHECKPOINT_CORRUPT when the file has shrunk
 */
export async function scanTensor(
  file: FileHandle,
  tensor: TensorSource,
  visit?: (bytes: Uint8Array, element: number) => void,
  signal?: AbortSignal,
): Promise<string> {
  const hash = createHash("sha256");
  const buffer = new Uint8Array(Math.min(SLICE_BYTES, tensor.byteLength));
  for (let at = 0; at < tensor.byteLength; at += buffer.byteLength) {
    const bytes = buffer.subarray(0, Math.min(buffer.byteLength, tensor.byteLength - at));
    await readExactly(file, bytes, tensor.offset + at, tensor.file, signal);
    const element = at / ELEMENT_BYTES[tensor.dtype];
    refuseNonFinite(tensor, bytes, element);
    hash.update(bytes);
    visit?.(bytes, element);
  }
  return hash.digest("hex");
}

/**
 * @param bytes - a part of the tensor
 * @param element - index of its first element in the tensor
 * @throws CheckpointError CHECKPOINT_NOT_FINITE at the first NaN or infinity
 */
export function refuseNonFinite(
  tensor: Pick<TensorSource, "name" | "dtype">,
  bytes: Uint8Array,
  element: number,
): void {
  const index = findNonFinite(tensor.dtype, bytes);
  if (index < 0) return;
  const value = elementAt(tensor.dtype, bytes, index);
  throw new CheckpointError(
    "CHECKPOINT_NOT_FINITE",
    `tensor ${quote(tensor.name)} is ${value} at element ${element + index}`,
  );
}
