import type { ElementType } from "../graph/index.ts";
import { OnnxRuntimeError } from "./error.ts";

/** Host memory of a tensor. float16 and bfloat16 are raw bits in a Uint16Array, bool is one byte per element. */
export type TensorData = Float32Array | Uint8Array | Int8Array | Uint16Array | Int32Array | BigInt64Array;

type TensorDataConstructor = {
  new (length: number): TensorData;
  readonly name: string;
  readonly BYTES_PER_ELEMENT: number;
};

interface ElementTypeInfo {
  /** Number of the type in ONNX and in the C API, which agree. */
  readonly code: number;
  readonly array: TensorDataConstructor;
}

const INFO: Record<ElementType, ElementTypeInfo> = {
  float32: { code: 1, array: Float32Array },
  uint8: { code: 2, array: Uint8Array },
  int8: { code: 3, array: Int8Array },
  int32: { code: 6, array: Int32Array },
  int64: { code: 7, array: BigInt64Array },
  bool: { code: 9, array: Uint8Array },
  float16: { code: 10, array: Uint16Array },
  bfloat16: { code: 16, array: Uint16Array },
};

/** The C API's number for a type, its typed array and the bytes of one element. */
export function elementTypeInfo(type: ElementType): ElementTypeInfo {
  const info = INFO[type];
  if (info === undefined) {
    throw new OnnxRuntimeError("INVALID_ARGUMENT", `unknown element type ${JSON.stringify(type)}`);
  }
  return info;
}

/** @returns undefined for a type that we have no name for, such as string */
export function elementTypeOf(code: number): ElementType | undefined {
  return (Object.keys(INFO) as ElementType[]).find((type) => INFO[type].code === code);
}

/**
 * Number of elements of a shape.
 *
 * @throws OnnxRuntimeError INVALID_ARGUMENT for an extent that is negative or not an integer, or a product over 2^53
 */
export function elementCount(shape: readonly number[]): number {
  let count = 1;
  for (const extent of shape) {
    if (!Number.isSafeInteger(extent) || extent < 0) throw invalidShape(shape);
    count *= extent;
  }
  if (!Number.isSafeInteger(count)) throw invalidShape(shape);
  return count;
}

function invalidShape(shape: readonly number[]): OnnxRuntimeError {
  return new OnnxRuntimeError("INVALID_ARGUMENT", `[${shape.join(", ")}] is not a shape`);
}
