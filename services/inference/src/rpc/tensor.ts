import { create } from "@bufbuild/protobuf";
import { DataType, type Tensor, TensorSchema } from "@persona-mesh/protocol";
import { ServiceError } from "@persona-mesh/service";

/** Values for the wire; the platform is little-endian, as the wire is. */
export function tensorOf(values: Float32Array, shape: readonly number[]): Tensor {
  return create(TensorSchema, {
    dataType: DataType.FLOAT32,
    shape: [...shape],
    data: new Uint8Array(values.buffer as ArrayBuffer, values.byteOffset, values.byteLength),
  });
}

/**
 * A vector from the wire. What it is used for checks its width and values.
 *
 * @throws ServiceError VECTOR_FORMAT when type, shape and bytes do not fit together
 */
export function vectorFrom(tensor: Tensor | undefined, field: string): Float32Array {
  const refuse = (why: string) =>
    new ServiceError("VECTOR_FORMAT", `${field}: ${why}`, { fieldViolations: [{ field, description: why }] });
  if (tensor === undefined) throw refuse("is missing");
  if (tensor.dataType !== DataType.FLOAT32) throw refuse("data_type must be DATA_TYPE_FLOAT32");
  const [width, ...more] = tensor.shape;
  if (width === undefined || more.length > 0) throw refuse("shape must have one extent");
  if (tensor.data.byteLength !== width * Float32Array.BYTES_PER_ELEMENT) {
    throw refuse(`${tensor.data.byteLength} bytes are not ${width} float32 values`);
  }
  // Decoded bytes lie at any offset of the message: copy them to one that floats may have.
  return new Float32Array(new Uint8Array(tensor.data).buffer);
}
