import koffi from "koffi";
import type { ElementType } from "../graph/index.ts";
import { elementTypeInfo, type TensorData } from "./element-type.ts";
import { environment, out } from "./environment.ts";
import { OnnxRuntimeError } from "./error.ts";
import { Handle } from "./handle.ts";
import type { Pointer } from "./library.ts";
import { byteLength, type DeviceKind, describe, nativeShape, Tensor } from "./tensor.ts";

/**
 * Memory where a session computes. On a GPU this is where a KV cache belongs; on the CPU it is ordinary memory outside
 * of JavaScript's, and the same code runs.
 *
 * Offsets and lengths are in elements. Never copy while a run that uses the tensor is in flight.
 */
export interface Device {
  readonly kind: DeviceKind;
  /** A tensor of zeros, freed when it and the bindings that hold it are closed. It keeps the session's memory alive. */
  allocate(type: ElementType, shape: readonly number[]): Tensor;
  /** Write `source` into `target` from element `offset` on. */
  copyIn(target: Tensor, source: TensorData, offset?: number): void;
  /** Fill `target` from element `offset` of `source` on. */
  copyOut(source: Tensor, target: TensorData, offset?: number): void;
}

/** The CPU's memory, through the allocator of a session. */
export class CpuDevice implements Device {
  readonly kind = "cpu";
  readonly #allocator: Pointer;
  readonly #handle: Handle;

  /** @param sessionHandle - retained until the device and its tensors are closed */
  constructor(session: Pointer, sessionHandle: Handle) {
    const { api, cpuMemory } = environment();
    sessionHandle.retain();
    this.#allocator = out((address) => api.CreateAllocator(session, cpuMemory, address));
    this.#handle = new Handle("device", () => {
      api.ReleaseAllocator(this.#allocator);
      sessionHandle.release();
    });
  }

  allocate(type: ElementType, shape: readonly number[]): Tensor {
    this.#handle.check();
    const { code } = elementTypeInfo(type);
    const bytes = byteLength({ type, shape });
    const dims = nativeShape(shape);
    const value = out((address) =>
      environment().api.CreateTensorAsOrtValue(this.#allocator, koffi.address(dims), shape.length, code, address),
    );
    if (bytes > 0) hostBytes(value, 0, bytes).fill(0);
    this.#handle.retain();
    return new Tensor({ type, shape }, value, this.kind, null, () => this.#handle.release());
  }

  copyIn(target: Tensor, source: TensorData, offset = 0): void {
    this.#elements(target, source, offset)?.set(bytesOf(source));
  }

  copyOut(source: Tensor, target: TensorData, offset = 0): void {
    const bytes = this.#elements(source, target, offset);
    if (bytes !== undefined) bytesOf(target).set(bytes);
  }

  /** Internal: called by the session. */
  close(): void {
    this.#handle.close();
  }

  /** The bytes of `tensor` that `array` stands for; undefined when there are none. */
  #elements(tensor: Tensor, array: TensorData, offset: number): Uint8Array | undefined {
    this.#handle.check();
    const { value } = tensor;
    const { array: expected } = elementTypeInfo(tensor.type);
    const start = offset * expected.BYTES_PER_ELEMENT;
    const inside = Number.isSafeInteger(offset) && offset >= 0 && start + array.byteLength <= tensor.byteLength;
    if (tensor.device !== this.kind || !(array instanceof expected) || !inside) {
      throw new OnnxRuntimeError(
        "INVALID_ARGUMENT",
        `${array.length} elements of a ${array.constructor.name} from element ${offset} on do not fit ` +
          `${describe(tensor)} on ${tensor.device}`,
      );
    }
    return array.byteLength === 0 ? undefined : hostBytes(value, start, array.byteLength);
  }
}

function bytesOf(array: TensorData): Uint8Array {
  return new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
}

/** A view of a CPU tensor's memory; must not outlive the call that made it. */
function hostBytes(value: Pointer, start: number, length: number): Uint8Array {
  const address = out((slot) => environment().api.GetTensorMutableData(value, slot));
  return new Uint8Array(koffi.view(address + BigInt(start), length));
}
