import type { GgmlType } from "./gguf.ts";

/** Elements of a row that share a scale, in both integer types. */
const BLOCK = 32;

/** Bytes of a block: a float16 scale, then the integers. */
const BLOCK_BYTES = { Q8_0: 2 + BLOCK, Q4_0: 2 + BLOCK / 2 } as const;

/** Bytes of so many elements, whole blocks. */
export function ggmlBytes(type: GgmlType, elements: number): number {
  if (type === "F32") return 4 * elements;
  if (elements % BLOCK !== 0) throw new RangeError(`${elements} elements are not whole blocks of ${BLOCK}`);
  return (elements / BLOCK) * BLOCK_BYTES[type];
}

/** Values as ggml stores them; its own quantizer rounds the same way. */
export function ggmlBlocks(type: GgmlType, values: Float32Array): Uint8Array {
  switch (type) {
    case "F32":
      return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
    case "Q8_0":
      return q8(values);
    case "Q4_0":
      return q4(values);
  }
}

/** scale · q, q from -127 to 127: the largest magnitude is exact. */
function q8(values: Float32Array): Uint8Array {
  const bytes = new Uint8Array(ggmlBytes("Q8_0", values.length));
  const view = new DataView(bytes.buffer);
  for (let block = 0, at = 0; block < values.length; block += BLOCK, at += BLOCK_BYTES.Q8_0) {
    const scale = Math.abs(extreme(values, block)) / 127;
    view.setFloat16(at, scale, true);
    const inverse = scale === 0 ? 0 : 1 / scale;
    for (let i = 0; i < BLOCK; i++) view.setInt8(at + 2 + i, Math.round((values[block + i] as number) * inverse));
  }
  return bytes;
}

/**
 * scale · (q - 8), q from 0 to 15, where the element of largest magnitude has q 0: the range has one more step below zero
 * than above. A byte holds an element of the first half of the block (low) and one of the second (high).
 */
function q4(values: Float32Array): Uint8Array {
  const bytes = new Uint8Array(ggmlBytes("Q4_0", values.length));
  const view = new DataView(bytes.buffer);
  const half = BLOCK / 2;
  for (let block = 0, at = 0; block < values.length; block += BLOCK, at += BLOCK_BYTES.Q4_0) {
    const scale = extreme(values, block) / -8;
    view.setFloat16(at, scale, true);
    const inverse = scale === 0 ? 0 : 1 / scale;
    const rounded = (i: number) => Math.min(15, Math.floor((values[block + i] as number) * inverse + 8.5));
    for (let i = 0; i < half; i++) bytes[at + 2 + i] = rounded(i) | (rounded(half + i) << 4);
  }
  return bytes;
}

/** The element of largest magnitude, with its sign. */
function extreme(values: Float32Array, from: number): number {
  let most = 0;
  for (let i = from; i < from + BLOCK; i++) {
    if (Math.abs(values[i] as number) > Math.abs(most)) most = values[i] as number;
  }
  return most;
}
