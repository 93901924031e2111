/** Element types that directions are read from. */
export type ElementType = "F32" | "F16" | "BF16";

export const ELEMENT_BYTES: Readonly<Record<ElementType, number>> = { F32: 4, F16: 2, BF16: 2 };

/** One direction in a file: which number it has there, and where its elements lie. */
export interface StoredDirection {
  /** N of `direction.N`, or the row of a matrix. */
  readonly number: number;
  /** Bytes from the start of the file. */
  readonly start: number;
  /** Elements. */
  readonly width: number;
  readonly type: ElementType;
}

/** Elements as float32, exact for all three types; in a buffer of its own. The place must lie within the bytes. */
export function readElements(bytes: Uint8Array, { start, width, type }: StoredDirection): Float32Array {
  const view = new DataView(bytes.buffer, bytes.byteOffset + start, width * ELEMENT_BYTES[type]);
  const read = READERS[type];
  return Float32Array.from({ length: width }, (_, i) => read(view, i * ELEMENT_BYTES[type]));
}

/** A bfloat16 is the upper half of a float32. */
const bits = new DataView(new ArrayBuffer(4));

const READERS: Readonly<Record<ElementType, (view: DataView, at: number) => number>> = {
  F32: (view, at) => view.getFloat32(at, true),
  F16: (view, at) => view.getFloat16(at, true),
  BF16: (view, at) => {
    bits.setUint16(0, view.getUint16(at, true));
    return bits.getFloat32(0);
  },
};
