import { type Binding, type Session, Tensor } from "@persona-mesh/onnx";
import type { DecoderSpec } from "../graph/index.ts";

/** An input or output of a head: extents after the first, which is the number of rows. */
interface Port {
  readonly type: "float32" | "int32" | "int64";
  readonly width: number;
}

/**
 * The buffers of one head graph for a number of rows.
 *
 * Every input and output is `[rows, width]`; the arrays are found by the graph's own names. Written between runs, read after one.
 */
export class HeadBatch implements Disposable {
  readonly #session: Session;
  readonly #binding: Binding;
  readonly #tensors = new Map<string, Tensor>();

  constructor(session: Session, spec: DecoderSpec, rows: number) {
    const make = (infos: Session["inputs"]) =>
      Object.fromEntries(infos.map((info) => [info.name, this.#own(info.name, portOf(info, spec), rows)]));
    this.#session = session;
    try {
      this.#binding = session.bind({ inputs: make(session.inputs), outputs: make(session.outputs) });
    } catch (error) {
      for (const tensor of this.#tensors.values()) tensor.close();
      throw error;
    }
  }

  /** The array of a float32 input or output, `[rows, width]`. */
  floats(name: string): Float32Array {
    return this.#data(name) as Float32Array;
  }

  /** The array of an int32 input, `[rows, width]`. */
  ints(name: string): Int32Array {
    return this.#data(name) as Int32Array;
  }

  /** The array of an int64 output, `[rows, width]`. */
  longs(name: string): BigInt64Array {
    return this.#data(name) as BigInt64Array;
  }

  run(): Promise<void> {
    return this.#session.run(this.#binding);
  }

  [Symbol.dispose](): void {
    this.#binding.close();
    for (const tensor of this.#tensors.values()) tensor.close();
  }

  #data(name: string): unknown {
    const tensor = this.#tensors.get(name);
    if (tensor === undefined) throw new Error(`the head has no input or output "${name}"`);
    return tensor.data;
  }

  #own(name: string, { type, width }: Port, rows: number): Tensor {
    const elements = rows * width;
    const arrays = { float32: Float32Array, int32: Int32Array, int64: BigInt64Array };
    const tensor = Tensor.from(type, [rows, width], new arrays[type](elements));
    this.#tensors.set(name, tensor);
    return tensor;
  }
}

function portOf(info: Session["inputs"][number], spec: DecoderSpec): Port {
  const width = info.shape[1];
  if (info.type !== "float32" && info.type !== "int32" && info.type !== "int64") {
    throw new Error(`head port "${info.name}" is ${info.type}`);
  }
  return { type: info.type, width: typeof width === "number" ? width : spec.hidden };
}
