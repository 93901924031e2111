import koffi from "koffi";
import type { ElementType } from "../graph/index.ts";
import { elementCount, elementTypeInfo, type TensorData } from "./element-type.ts";
import { environment, out } from "./environment.ts";
import { OnnxRuntimeError } from "./error.ts";
import { Handle } from "./handle.ts";
import type { Pointer } from "./library.ts";

/** Where a tensor's elements lie. */
export type DeviceKind = "cpu" | "webgpu" | "cuda";

/** A tensor's elements, copied out of the runtime. */
export interface HostTensor {
  readonly type: ElementType;
  readonly shape: readonly number[];
  readonly data: TensorData;
}

/**
 * A tensor that runs read and write in place.
 *
 * Over a typed array, nothing is copied in either direction: write the array between runs to change the input, read it
 * after a run to see the output. Never touch it while a run that uses it is in flight, and never transfer its buffer.
 * A view at an offset of a larger array is a tensor of its own; several tensors may overlap, which is how a KV cache
 * serves whole, by slot and by prefix of slots. Arrays over 2 GB are fine.
 *
 * The tensor keeps its array alive. `close()` is idempotent; bindings that hold the tensor keep it until they close.
 */
export class Tensor implements Disposable {
  readonly type: ElementType;
  readonly shape: readonly number[];
  readonly byteLength: number;
  readonly device: DeviceKind;
  /** The array that the tensor was made over; null for memory of a device. */
  readonly data: TensorData | null;
  /** Internal to the runtime package. */
  readonly handle: Handle;
  readonly #value: Pointer;

  /** Internal: use {@link Tensor.from} or a device. Owns `value`. */
  constructor(spec: TensorSpec, value: Pointer, device: DeviceKind, data: TensorData | null, onFree?: () => void) {
    this.type = spec.type;
    this.shape = [...spec.shape];
    this.byteLength = byteLength(spec);
    this.device = device;
    this.data = data;
    this.#value = value;
    this.handle = new Handle(`tensor ${describe(spec)}`, () => {
      environment().api.ReleaseValue(value);
      onFree?.();
    });
  }

  /**
   * A tensor over all elements of `data`.
   *
   * @param shape - extents, outermost first; `[]` is a scalar; an extent may be 0
   * @param data - the type's own array, not resizable; float16 and bfloat16 as Uint16Array, bool as Uint8Array
   * @throws OnnxRuntimeError INVALID_ARGUMENT when array, type and shape do not fit together
   */
  static from(type: ElementType, shape: readonly number[], data: TensorData): Tensor {
    const spec = { type, shape };
    const { array, code } = elementTypeInfo(type);
    if (!(data instanceof array)) {
      throw new OnnxRuntimeError("INVALID_ARGUMENT", `a ${type} tensor needs a ${array.name}`);
    }
    if (data.buffer instanceof ArrayBuffer && data.buffer.resizable) {
      throw new OnnxRuntimeError("INVALID_ARGUMENT", "a tensor cannot lie over a resizable ArrayBuffer");
    }
    const count = elementCount(shape);
    if (count !== data.length) {
      throw new OnnxRuntimeError(
        "INVALID_ARGUMENT",
        `${describe(spec)} has ${count} elements, the array has ${data.length}`,
      );
    }
    const { api, cpuMemory } = environment();
    const dims = nativeShape(shape);
    const value = out((address) =>
      api.CreateTensorWithDataAsOrtValue(
        cpuMemory,
        addressOf(data),
        data.byteLength,
        koffi.address(dims),
        shape.length,
        code,
        address,
      ),
    );
    return new Tensor(spec, value, "cpu", data);
  }

  /** Internal: the native value, for a call that is made at once. @throws OnnxRuntimeError USE_AFTER_CLOSE */
  get value(): Pointer {
    this.handle.check();
    return this.#value;
  }

  get closed(): boolean {
    return this.handle.closed;
  }

  close(): void {
    this.handle.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

export interface TensorSpec {
  readonly type: ElementType;
  readonly shape: readonly number[];
}

/** @throws OnnxRuntimeError INVALID_ARGUMENT for what is no shape, or no size */
export function byteLength({ type, shape }: TensorSpec): number {
  const bytes = elementCount(shape) * elementTypeInfo(type).array.BYTES_PER_ELEMENT;
  if (!Number.isSafeInteger(bytes)) {
    throw new OnnxRuntimeError("INVALID_ARGUMENT", `${describe({ type, shape })} is too large`);
  }
  return bytes;
}

/** E.g. `float32[2, 64]`. */
export function describe({ type, shape }: { type: string; shape: readonly (number | string | null)[] }): string {
  return `${type}[${shape.map((extent) => extent ?? "?").join(", ")}]`;
}

/** The C API takes extents as int64; an empty array still needs an address. */
export function nativeShape(shape: readonly number[]): BigInt64Array {
  const native = new BigInt64Array(new ArrayBuffer(8 * Math.max(1, shape.length)));
  shape.forEach((extent, axis) => {
    native[axis] = BigInt(extent);
  });
  return native;
}

/** Stands for the memory of tensors without elements, which some allocations give no address. */
const NO_ELEMENTS = new ArrayBuffer(64);

/**
 * Address of an array's first element, good as long as the array is referenced: V8 moves objects, but not the backing
 * store of a buffer. Small arrays live inside the object until their `buffer` is asked for.
 */
function addressOf(data: TensorData): Pointer {
  const { buffer, byteLength } = data;
  return byteLength === 0 || buffer.byteLength === 0 ? koffi.address(NO_ELEMENTS) : koffi.address(data);
}
