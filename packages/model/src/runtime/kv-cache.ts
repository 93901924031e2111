import { Tensor } from "@persona-mesh/onnx";
import type { DecoderSpec } from "../graph/index.ts";

/** Key and value tensors of one layer over the same range of slots. */
export interface LayerCache {
  readonly key: Tensor;
  readonly value: Tensor;
}

/**
 * Keys and values of every slot: one buffer `[slots, kvHeads, cacheTokens, headDim]` per layer and side.
 *
 * A decode step sees the first n slots, a prefill chunk sees one slot; both are views of the same memory, so that nothing is
 * copied when a request joins or leaves the batch. Only a body run writes it, and one body run is in flight at a time.
 */
export class KvCache implements Disposable {
  readonly byteLength: number;
  /** Floats that one position of one slot takes, over all layers. */
  readonly positionElements: number;
  readonly #slotElements: number;
  readonly #shape: readonly [number, number, number];
  readonly #layers: readonly { readonly key: Float32Array; readonly value: Float32Array }[];
  readonly #views = new Map<string, readonly LayerCache[]>();

  constructor(spec: Pick<DecoderSpec, "layers" | "kvHeads" | "headDim">, slots: number, cacheTokens: number) {
    this.#shape = [spec.kvHeads, cacheTokens, spec.headDim];
    this.#slotElements = spec.kvHeads * cacheTokens * spec.headDim;
    const elements = slots * this.#slotElements;
    this.#layers = Array.from({ length: spec.layers }, () => ({
      key: new Float32Array(elements),
      value: new Float32Array(elements),
    }));
    this.positionElements = 2 * spec.layers * spec.kvHeads * spec.headDim;
    this.byteLength = 2 * spec.layers * elements * Float32Array.BYTES_PER_ELEMENT;
  }

  /** Tensors `[count, kvHeads, cacheTokens, headDim]` per layer, over `count` slots from `firstSlot`. Kept until dispose. */
  view(firstSlot: number, count: number): readonly LayerCache[] {
    const key = `${firstSlot}+${count}`;
    let view = this.#views.get(key);
    if (view === undefined) {
      const from = firstSlot * this.#slotElements;
      const part = (side: Float32Array) =>
        Tensor.from("float32", [count, ...this.#shape], side.subarray(from, from + count * this.#slotElements));
      view = this.#layers.map((layer) => ({ key: part(layer.key), value: part(layer.value) }));
      this.#views.set(key, view);
    }
    return view;
  }

  /**
   * Copy keys and values of positions `start` and up out of a slot.
   *
   * @param into - float32[layers, 2, kvHeads, positions, headDim]; its length says how many positions
   */
  read(slot: number, start: number, into: Float32Array): void {
    this.#parts(slot, start, into, (cached, outside) => outside.set(cached));
  }

  /** Copy keys and values into a slot, as {@link read} has given them. */
  write(slot: number, start: number, from: Float32Array): void {
    this.#parts(slot, start, from, (cached, outside) => cached.set(outside));
  }

  [Symbol.dispose](): void {
    for (const view of this.#views.values()) {
      for (const layer of view) {
        layer.key.close();
        layer.value.close();
      }
    }
    this.#views.clear();
  }

  /** The stretches of memory that belong together, head by head: one of the cache, one of an array outside. */
  #parts(
    slot: number,
    start: number,
    outside: Float32Array,
    each: (cached: Float32Array, outside: Float32Array) => void,
  ): void {
    const [kvHeads, cacheTokens, headDim] = this.#shape;
    const positions = outside.length / this.positionElements;
    if (!Number.isInteger(positions) || start < 0 || start + positions > cacheTokens) {
      throw new RangeError(`${positions} positions from ${start} on, of ${cacheTokens}`);
    }
    const length = positions * headDim;
    let at = 0;
    for (const { key, value } of this.#layers) {
      for (const side of [key, value]) {
        for (let head = 0; head < kvHeads; head++) {
          const from = slot * this.#slotElements + (head * cacheTokens + start) * headDim;
          each(side.subarray(from, from + length), outside.subarray(at, at + length));
          at += length;
        }
      }
    }
  }
}
