import { DataType, type Tensor } from "@persona-mesh/protocol";
import { LocalError } from "./local-error.ts";

/**
 * The values of a float32 tensor of the wire, in a buffer of their own.
 *
 * @param shape - what the shape must be; undefined for a dimension of any size
 * @param what - what the tensor is, for the message
 * @returns float32 values, row-major
 * @throws LocalError RESPONSE_INVALID when type, shape or bytes are others
 */
export function float32Values(
  tensor: Tensor | undefined,
  shape: readonly (number | undefined)[],
  what: string,
): Float32Array {
  const expected = `float32[${shape.map((size) => size ?? "?").join(", ")}]`;
  if (tensor === undefined) throw new LocalError("RESPONSE_INVALID", `the answer has no ${what}, ${expected}`);
  const fits =
    tensor.dataType === DataType.FLOAT32 &&
    tensor.shape.length === shape.length &&
    tensor.shape.every((size, axis) => shape[axis] === undefined || shape[axis] === size);
  const elements = tensor.shape.reduce((product, size) => product * size, 1);
  if (!fits || tensor.data.byteLength !== 4 * elements) {
    const found = `[${tensor.shape.join(", ")}] of ${tensor.data.byteLength} bytes`;
    throw new LocalError("RESPONSE_INVALID", `${what} of the answer is ${found}, not ${expected}`);
  }
  // Bytes fields are views at any offset of the message, which a float32 view does not take: copy.
  return new Float32Array(new Uint8Array(tensor.data).buffer);
}
