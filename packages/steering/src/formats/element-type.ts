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
  const values = new Float32Array(width);
  READERS[type](view, values);
  return values;
}

const READERS: Readonly<Record<ElementType, (view: DataView, into: Float32Array) => void>> = {
  F32: (view, into) => {
    for (let i = 0; i < into.length; i++) into[i] = view.getFloat32(4 * i, true);
  },
  F16: (view, into) => {
    for (let i = 0; i < into.length; i++) into[i] = view.getFloat16(2 * i, true);
  },
  // A bfloat16 is the upper half of a float32.
  BF16: (view, into) => {
    const bits = new Uint32Array(into.buffer);
    for (let i = 0; i < into.length; i++) bits[i] = view.getUint16(2 * i, true) << 16;
  },
};
