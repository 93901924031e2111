/**
 * The element types that weights come in: IEEE single and half precision, and bfloat16, little-endian as safetensors has
 * them. This code assumes a little-endian machine, as every typed array of this package does.
 */
export type ElementType = "F32" | "F16" | "BF16";

/** Bytes of an element. */
export const ELEMENT_BYTES: Readonly<Record<ElementType, number>> = { F32: 4, F16: 2, BF16: 2 };

/** Whether a dtype of the safetensors format is one that weights may have. */
export function isElementType(dtype: string): dtype is ElementType {
  return Object.hasOwn(ELEMENT_BYTES, dtype);
}

/**
 * Convert elements to float32; exact for every value of every type, subnormals and infinities included.
 *
 * @param bytes - whole elements, at any alignment (a copy is made where the alignment is not the elements' own)
 * @param target - takes the values from index `at`
 * @throws RangeError when `bytes` are not whole elements, or more than `target` has room for
 */
export function convertToFloat32(type: ElementType, bytes: Uint8Array, target: Float32Array, at = 0): void {
  const count = elementCount(type, bytes);
  if (at + count > target.length) throw new RangeError(`${count} elements at ${at} do not fit ${target.length}`);
  const source = aligned(bytes, ELEMENT_BYTES[type]);
  const { buffer, byteOffset } = source;
  switch (type) {
    case "F32":
      target.set(new Float32Array(buffer, byteOffset, count), at);
      return;
    case "F16": {
      // A loop is compiled to the processor's conversion; `set` calls a function for each element (half as fast).
      const halves = new Float16Array(buffer, byteOffset, count);
      for (let i = 0; i < count; i++) target[at + i] = halves[i] as number;
      return;
    }
    case "BF16": {
      // The upper half of a float32, so moving the bits is all there is to it.
      const halves = new Uint16Array(buffer, byteOffset, count);
      const bits = new Int32Array(target.buffer, target.byteOffset + 4 * at, count);
      for (let i = 0; i < count; i++) bits[i] = (halves[i] as number) << 16;
    }
  }
}

/** One element as a number, for messages. */
export function elementAt(type: ElementType, bytes: Uint8Array, index: number): number {
  const value = new Float32Array(1);
  convertToFloat32(type, bytes.subarray(index * ELEMENT_BYTES[type], (index + 1) * ELEMENT_BYTES[type]), value);
  return value[0] as number;
}

/** Bits of the exponent in a 32-bit word of one or two elements, and the lowest of them in each. */
const EXPONENT: Readonly<Record<ElementType, { bits: number; lowest: number; signs: number }>> = {
  F32: { bits: 0x7f800000, lowest: 0x00800000, signs: 0x80000000 },
  F16: { bits: 0x7c007c00, lowest: 0x04000400, signs: 0x80008000 },
  BF16: { bits: 0x7f807f80, lowest: 0x00800080, signs: 0x80008000 },
};

/** Elements are looked at one by one only in the block in which something is wrong. */
const BLOCK_BYTES = 16 * 1024;

/**
 * Index of the first element that is NaN or infinite, or -1: without converting, several GB/s.
 *
 * @param bytes - whole elements, at any alignment
 * @throws RangeError when `bytes` are not whole elements
 */
export function findNonFinite(type: ElementType, bytes: Uint8Array): number {
  elementCount(type, bytes);
  const source = aligned(bytes, 4);
  for (let from = 0; from < source.byteLength; from += BLOCK_BYTES) {
    const block = source.subarray(from, from + BLOCK_BYTES);
    const words = new Int32Array(block.buffer, block.byteOffset, Math.floor(block.byteLength / 4));
    const halfWordIsLeft = block.byteLength % 4 !== 0;
    if (!halfWordIsLeft && !exponentCarries(type, words)) continue;
    const values = new Float32Array(block.byteLength / ELEMENT_BYTES[type]);
    convertToFloat32(type, block, values);
    const index = values.findIndex((value) => !Number.isFinite(value));
    if (index >= 0) return from / ELEMENT_BYTES[type] + index;
  }
  return -1;
}

/**
 * Whether any exponent is all ones, which is what NaN and infinity have in common: adding one to such an exponent, and to
 * no other, carries into the sign's place, which has been cleared before.
 */
function exponentCarries(type: ElementType, words: Int32Array): boolean {
  const { bits, lowest, signs } = EXPONENT[type];
  let seen = 0;
  for (let i = 0; i < words.length; i++) seen |= ((words[i] as number) & bits) + lowest;
  return (seen & signs) !== 0;
}

function elementCount(type: ElementType, bytes: Uint8Array): number {
  const count = bytes.byteLength / ELEMENT_BYTES[type];
  if (!Number.isInteger(count)) throw new RangeError(`${bytes.byteLength} bytes are not whole elements of ${type}`);
  return count;
}

function aligned(bytes: Uint8Array, alignment: number): Uint8Array {
  return bytes.byteOffset % alignment === 0 ? bytes : bytes.slice();
}
