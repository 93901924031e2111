import { DataType, type Tensor } from "@persona-mesh/protocol";

/** The values of a float32 tensor of the wire. */
export function floatsOf(tensor: Tensor | undefined): Float32Array {
  if (tensor?.dataType !== DataType.FLOAT32) throw new Error("not a float32 tensor");
  return new Float32Array(Uint8Array.from(tensor.data).buffer);
}

/** A float32 vector for the wire. */
export function vectorTensor(values: Float32Array, shape: readonly number[] = [values.length]) {
  return {
    dataType: DataType.FLOAT32,
    shape: [...shape],
    data: new Uint8Array(values.buffer as ArrayBuffer, values.byteOffset, values.byteLength).slice(),
  };
}

/** The bits of float32 values: equal only where nothing at all differs, not even the sign of zero. */
export function bitsOf(values: Iterable<number>): number[] {
  return [...new Uint32Array(Float32Array.from(values).buffer)];
}
