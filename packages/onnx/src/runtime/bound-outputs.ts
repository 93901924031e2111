import koffi from "koffi";
import { elementTypeInfo, elementTypeOf } from "./element-type.ts";
import { environment, out } from "./environment.ts";
import { OnnxRuntimeError } from "./error.ts";
import type { Pointer } from "./library.ts";
import type { HostTensor } from "./tensor.ts";
import { byteLength } from "./tensor.ts";
import { readElementCode, readShape } from "./value-info.ts";

/**
 * Copy one output of a finished run out of its native binding.
 *
 * @param index - place of the output in the order of binding
 */
export function copyBoundOutput(ioBinding: Pointer, index: number): HostTensor {
  const { api, allocator } = environment();
  const count = new BigUint64Array(new ArrayBuffer(8));
  const list = out((address) => api.GetBoundOutputValues(ioBinding, allocator, address, koffi.address(count)));
  if (list === 0n) throw new OnnxRuntimeError("FAIL", "the binding has no outputs");
  const values = koffi.decode(list, "uint64_t", Number(count[0])) as BigUint64Array;
  try {
    const value = values[index];
    if (value === undefined) throw new OnnxRuntimeError("FAIL", `the binding has no output ${index}`);
    return copyValue(value);
  } finally {
    for (const value of values) api.ReleaseValue(value);
    api.AllocatorFree(allocator, list);
  }
}

/** Copy a tensor of the host out of a native value. */
function copyValue(value: Pointer): HostTensor {
  const { api } = environment();
  const info = out((address) => api.GetTensorTypeAndShape(value, address));
  try {
    const type = elementTypeOf(readElementCode(info));
    if (type === undefined) throw new OnnxRuntimeError("NOT_IMPLEMENTED", "the output has an unsupported element type");
    const shape = readShape(info) as number[];
    const bytes = byteLength({ type, shape });
    const address = out((slot) => api.GetTensorMutableData(value, slot));
    const { array } = elementTypeInfo(type);
    const data = new array(bytes / array.BYTES_PER_ELEMENT);
    if (bytes > 0) copyToHost(address, data.buffer as ArrayBuffer);
    return { type, shape, data };
  } finally {
    api.ReleaseTensorTypeAndShapeInfo(info);
  }
}

function copyToHost(address: Pointer, target: ArrayBuffer): void {
  new Uint8Array(target).set(new Uint8Array(koffi.view(address, target.byteLength)));
}
