import type { DecoderSpec } from "@persona-mesh/model/graph";
import { Tensor } from "@persona-mesh/onnx";
import { ADAPTER, type AdaptedMatrix, type AdapterSource, adaptedMatrices, factorSizes, RANK } from "./lora-weights.ts";

/** One pair of factors of all adapters, one adapter after the other. */
interface PooledFactors {
  readonly matrix: AdaptedMatrix;
  /** float32[adapters, in, RANK] */
  readonly down: Float32Array;
  /** float32[adapters, RANK, out] */
  readonly up: Float32Array;
}

/** Adapters in memory, every factor's next to those of the others, and tensors over them. */
export class AdapterPool implements Disposable {
  /** Of one adapter. */
  readonly bytes: number;
  readonly factors: readonly PooledFactors[];
  readonly #tensors: Tensor[] = [];

  /** @param scale - of the values; the products' norms grow with its square */
  constructor(spec: DecoderSpec, adapters: number, scale: number) {
    this.factors = adaptedMatrices(spec).map((matrix, index) => {
      const sizes = factorSizes(matrix);
      return {
        matrix,
        down: waves(adapters * sizes.down, index + 1, scale),
        up: waves(adapters * sizes.up, index + 0.5, scale),
      };
    });
    this.bytes = this.factors.reduce((sum, { down, up }) => sum + (down.byteLength + up.byteLength) / adapters, 0);
  }

  /**
   * The adapter inputs of a graph. For `shared` the first adapter, for `placed` the first `rows`, in their order.
   *
   * @param rows - of the batch
   * @param index - int32[rows], each row's adapter, for `gathered`
   */
  inputs(source: AdapterSource, rows: number, index: Int32Array): Record<string, Tensor> {
    const own = (shape: readonly number[], data: Float32Array | Int32Array) => {
      const tensor = Tensor.from(data instanceof Int32Array ? "int32" : "float32", shape, data);
      this.#tensors.push(tensor);
      return tensor;
    };
    const factor = (all: Float32Array, shape: readonly [number, number]) => {
      const size = shape[0] * shape[1];
      if (source === "shared") return own(shape, all.subarray(0, size));
      if (source === "placed") return own([rows, ...shape], all.subarray(0, rows * size));
      return own([all.length / size, ...shape], all);
    };
    const inputs = this.factors.flatMap(({ matrix, down, up }) => [
      [ADAPTER.down(matrix.weight), factor(down, [matrix.in, RANK])] as const,
      [ADAPTER.up(matrix.weight), factor(up, [RANK, matrix.out])] as const,
    ]);
    const rowInput = source === "gathered" ? [[ADAPTER.rows, own([rows], index)] as const] : [];
    return Object.fromEntries([...inputs, ...rowInput]);
  }

  /** Copy adapter `from` over adapter `to`: what switching a row costs where it has a place of its own. */
  write(to: number, from: number): void {
    for (const { matrix, down, up } of this.factors) {
      const sizes = factorSizes(matrix);
      down.copyWithin(to * sizes.down, from * sizes.down, (from + 1) * sizes.down);
      up.copyWithin(to * sizes.up, from * sizes.up, (from + 1) * sizes.up);
    }
  }

  [Symbol.dispose](): void {
    for (const tensor of this.#tensors) tensor.close();
  }
}

/** Values between −scale and scale, different at every place and for every seed. */
function waves(length: number, seed: number, scale: number): Float32Array {
  return Float32Array.from({ length }, (_, i) => scale * Math.sin(seed * (i + 1) * 1.618 + seed));
}
