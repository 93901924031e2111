import { createHash } from "node:crypto";
import { SteeringError, type VectorFormatReason } from "./error.ts";
import { UNIT_TOLERANCE } from "./term.ts";
import { headerOf, parseHeader, slotsOf } from "./vector-header.ts";
import { MAX_HIDDEN_SIZE, MAX_LAYER_COUNT, parseManifest, type VectorManifest } from "./vector-manifest.ts";
import { isFiniteVector, norm } from "./vector-math.ts";

/**
 * A vector version as canonical bytes, known by their sha256.
 *
 * The layout is safetensors, so that other tools can read it: 8 bytes little-endian header length, a JSON header padded
 * with spaces to a multiple of 8, then the data. Tensors are `direction.<layer>`, F32 [hidden]; `__metadata__` has one key
 * `manifest`, itself canonical JSON. There is one way only to write a given vector, and no other is read: else one vector
 * would have many digests.
 */

/** A manifest and the unit directions that it describes. */
export interface VectorVersion<Manifest extends VectorManifest = VectorManifest> {
  readonly manifest: Manifest;
  /** By layer; float32[hidden] each. */
  readonly directions: ReadonlyMap<number, Float32Array>;
}

/** Bounds what JSON.parse is given: 512 layers with their figures take under half of it. */
export const MAX_HEADER_BYTES = 1 << 19;

/** Longest file that can pass; longer ones are refused before anything is read. */
export const MAX_VECTOR_FILE_BYTES = 8 + MAX_HEADER_BYTES + MAX_LAYER_COUNT * MAX_HIDDEN_SIZE * 4;

const LENGTH_BYTES = 8;
const ALIGNMENT = 8;
const FLOAT_BYTES = 4;

/**
 * Write a version. The same version gives the same bytes.
 *
 * @throws SteeringError VECTOR_MANIFEST_INVALID, VECTOR_TENSORS_INVALID, VECTOR_NOT_FINITE, VECTOR_NOT_UNIT,
 *   VECTOR_FILE_TOO_LARGE
 */
export function encodeVector(version: VectorVersion): Uint8Array {
  const manifest = parseManifest(version.manifest);
  requireDirections(manifest, version.directions);
  const header = new TextEncoder().encode(headerOf(manifest));
  const headerBytes = Math.ceil(header.length / ALIGNMENT) * ALIGNMENT;
  if (headerBytes > MAX_HEADER_BYTES) {
    fail("VECTOR_FILE_TOO_LARGE", `a header of ${headerBytes} bytes is over the limit ${MAX_HEADER_BYTES}`);
  }
  const dataStart = LENGTH_BYTES + headerBytes;
  const bytes = new Uint8Array(dataStart + manifest.layers.length * manifest.hiddenSize * FLOAT_BYTES);
  const view = new DataView(bytes.buffer);
  view.setBigUint64(0, BigInt(headerBytes), true);
  bytes.fill(0x20, LENGTH_BYTES, dataStart);
  bytes.set(header, LENGTH_BYTES);
  for (const { layer, offsets } of slotsOf(manifest)) {
    const direction = version.directions.get(layer) as Float32Array;
    for (const [i, x] of direction.entries()) view.setFloat32(dataStart + offsets[0] + i * FLOAT_BYTES, x, true);
  }
  return bytes;
}

/**
 * Read a version strictly. Allocates no more than a small multiple of the bytes given.
 *
 * @param bytes - a whole file; only read, and not kept
 * @returns directions in buffers of their own, ascending by layer
 * @throws SteeringError with a `VectorFormatReason` for anything that `encodeVector` does not write
 */
export function decodeVector(bytes: Uint8Array): VectorVersion {
  if (bytes.length > MAX_VECTOR_FILE_BYTES) {
    fail("VECTOR_FILE_TOO_LARGE", `${bytes.length} bytes are over the limit ${MAX_VECTOR_FILE_BYTES}`);
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const dataStart = LENGTH_BYTES + readHeaderLength(view);
  const manifest = parseHeader(readText(bytes.subarray(LENGTH_BYTES, dataStart)));
  const dataBytes = manifest.layers.length * manifest.hiddenSize * FLOAT_BYTES;
  if (bytes.length - dataStart !== dataBytes) {
    const found = `${bytes.length - dataStart} bytes of data`;
    fail("VECTOR_FILE_TRUNCATED", `${found} where ${manifest.layers.length} directions take ${dataBytes}`);
  }
  const starts = new Map(slotsOf(manifest).map(({ layer, offsets }) => [layer, dataStart + offsets[0]]));
  const directions = new Map(
    manifest.layers.map((layer) => [layer, readFloats(view, starts.get(layer) as number, manifest.hiddenSize)]),
  );
  requireDirections(manifest, directions);
  return { manifest, directions };
}

/** The name of a version everywhere: sha256 of its canonical bytes, in lower-case hex. */
export function versionDigest(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

function readHeaderLength(view: DataView): number {
  if (view.byteLength < LENGTH_BYTES) fail("VECTOR_FILE_TRUNCATED", `${view.byteLength} bytes are no vector file`);
  const length = view.getBigUint64(0, true);
  if (length > MAX_HEADER_BYTES) {
    fail("VECTOR_FILE_TOO_LARGE", `a header of ${length} bytes is over the limit ${MAX_HEADER_BYTES}`);
  }
  if (Number(length) % ALIGNMENT !== 0) {
    fail("VECTOR_NOT_CANONICAL", `a header of ${length} bytes is not padded to a multiple of ${ALIGNMENT}`);
  }
  if (Number(length) > view.byteLength - LENGTH_BYTES) {
    fail("VECTOR_FILE_TRUNCATED", `a header of ${length} bytes in a file of ${view.byteLength}`);
  }
  return Number(length);
}

function readText(bytes: Uint8Array): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return fail("VECTOR_HEADER_INVALID", "the header is not UTF-8");
  }
}

function readFloats(view: DataView, start: number, count: number): Float32Array {
  return Float32Array.from({ length: count }, (_, i) => view.getFloat32(start + i * FLOAT_BYTES, true));
}

function requireDirections(manifest: VectorManifest, directions: ReadonlyMap<number, Float32Array>): void {
  if (directions.size !== manifest.layers.length) {
    fail("VECTOR_TENSORS_INVALID", `${directions.size} directions for ${manifest.layers.length} layers`);
  }
  for (const layer of manifest.layers) {
    const direction = directions.get(layer);
    if (direction?.length !== manifest.hiddenSize) {
      fail("VECTOR_TENSORS_INVALID", `layer ${layer}: no direction of width ${manifest.hiddenSize}`);
    }
    if (!isFiniteVector(direction)) fail("VECTOR_NOT_FINITE", `layer ${layer}: NaN or Inf in the direction`);
    const length = norm(direction);
    if (Math.abs(length - 1) > UNIT_TOLERANCE) {
      fail("VECTOR_NOT_UNIT", `layer ${layer}: length ${length} where a direction has length 1`);
    }
  }
}

function fail(reason: VectorFormatReason, problem: string): never {
  throw new SteeringError(reason, `vector file: ${problem}`);
}
