import koffi from "koffi";
import type { Dimension, ElementType } from "../graph/index.ts";
import { elementTypeOf } from "./element-type.ts";
import { environment, out } from "./environment.ts";
import { OnnxRuntimeError } from "./error.ts";
import type { Pointer } from "./library.ts";

/** An input or output of a session, as its graph declares it. */
export interface ValueInfo {
  readonly name: string;
  readonly type: ElementType;
  /** A number is fixed, a name is an extent that the caller chooses, null is one without a name. */
  readonly shape: readonly (Dimension | null)[];
}

/** Inputs and outputs of a session. @throws OnnxRuntimeError NOT_IMPLEMENTED for anything but tensors of our types */
export function readValueInfos(session: Pointer, direction: "input" | "output"): ValueInfo[] {
  const { api, allocator } = environment();
  const [getCount, getName, getType] =
    direction === "input"
      ? [api.SessionGetInputCount, api.SessionGetInputName, api.SessionGetInputTypeInfo]
      : [api.SessionGetOutputCount, api.SessionGetOutputName, api.SessionGetOutputTypeInfo];
  const count = Number(out((address) => getCount(session, address)));
  return Array.from({ length: count }, (_, index) => {
    const name = takeString(out((address) => getName(session, index, allocator, address)));
    const typeInfo = out((address) => getType(session, index, address));
    try {
      const tensorInfo = out((address) => api.CastTypeInfoToTensorInfo(typeInfo, address));
      const type = tensorInfo === 0n ? undefined : elementTypeOf(readElementCode(tensorInfo));
      if (type === undefined) {
        throw new OnnxRuntimeError("NOT_IMPLEMENTED", `${direction} "${name}" is not a tensor of a supported type`);
      }
      return { name, type, shape: readShape(tensorInfo) };
    } finally {
      api.ReleaseTypeInfo(typeInfo);
    }
  });
}

/** Copy a string that the runtime's allocator made, and free it. */
export function takeString(address: Pointer): string {
  const { api, allocator } = environment();
  const text = koffi.decode.string(address);
  api.AllocatorFree(allocator, address);
  return text;
}

/** The element type's number of a tensor info. */
export function readElementCode(tensorInfo: Pointer): number {
  return Number(out((address) => environment().api.GetTensorElementType(tensorInfo, address)));
}

/** Extents of a tensor info. */
export function readShape(tensorInfo: Pointer): (Dimension | null)[] {
  const { api } = environment();
  const rank = Number(out((address) => api.GetDimensionsCount(tensorInfo, address)));
  if (rank === 0) return [];
  const extents = new BigInt64Array(new ArrayBuffer(8 * rank));
  const names = new BigUint64Array(new ArrayBuffer(8 * rank));
  api.GetDimensions(tensorInfo, koffi.address(extents), rank);
  api.GetSymbolicDimensions(tensorInfo, koffi.address(names), rank);
  return Array.from(extents, (extent, axis) => {
    if (extent >= 0n) return Number(extent);
    const name = names[axis];
    return (name ? koffi.decode.string(name) : "") || null;
  });
}
