import { type Binding, type Session, Tensor } from "@persona-mesh/onnx";
import { BODY, type DecoderSpec, STEERING } from "../graph/index.ts";
import type { LayerCache } from "./kv-cache.ts";

/** Extents of one kind of body run. */
export interface BatchShape {
  readonly batch: number;
  /** Positions per row in this run: 1 in a decode step, a chunk in a prefill. */
  readonly sequence: number;
  /** Positions whose hidden states are wanted. */
  readonly selected: number;
}

/**
 * The buffers of one kind of body run, bound once to a session and its KV cache.
 *
 * The owner writes the inputs between runs and reads the outputs after one; the next run of the same batch overwrites them.
 */
export class BodyBatch implements Disposable {
  readonly shape: BatchShape;
  /** int32[batch, sequence] */
  readonly tokens: Int32Array;
  /** int32[batch]: positions a row has after the run, minus one. */
  readonly lastPosition: Int32Array;
  /** int32[selected], into the flattened batch × sequence. */
  readonly select: Int32Array;
  /** int32[batch, layers]: rows of the steering table. */
  readonly rows: Int32Array;
  /** float32[batch] */
  readonly gain: Float32Array;
  /** bool[batch] */
  readonly renorm: Uint8Array;
  /** float32[selected, hidden] */
  readonly hidden: Float32Array;
  /** float32[batch, sequence, layers]; empty for a graph without projections. */
  readonly projections: Float32Array;
  /** float32[batch, sequence, layers, hidden]; empty for a graph without residuals. */
  readonly residuals: Float32Array;
  readonly #session: Session;
  readonly #binding: Binding;
  readonly #tensors: Tensor[] = [];
  readonly #totalLength = new Int32Array(1);

  constructor(
    session: Session,
    spec: DecoderSpec,
    shape: BatchShape,
    cache: readonly LayerCache[],
    shared: Readonly<Record<string, Tensor>>,
  ) {
    const { batch, sequence, selected } = shape;
    this.shape = shape;
    this.tokens = new Int32Array(batch * sequence);
    this.lastPosition = new Int32Array(batch);
    this.select = new Int32Array(selected);
    this.rows = new Int32Array(batch * spec.layers);
    this.gain = new Float32Array(batch);
    this.renorm = new Uint8Array(batch);
    this.hidden = new Float32Array(selected * spec.hidden);
    const gives = new Set(session.outputs.map(({ name }) => name));
    const extent = (output: string, elements: number) => (gives.has(output) ? elements : 0);
    this.projections = new Float32Array(extent(STEERING.projections, batch * sequence * spec.layers));
    this.residuals = new Float32Array(extent(BODY.residuals, batch * sequence * spec.layers * spec.hidden));

    const own = (tensor: Tensor) => {
      this.#tensors.push(tensor);
      return tensor;
    };
    const offered: Record<string, () => Tensor> = {
      [BODY.tokens]: () => own(Tensor.from("int32", [batch, sequence], this.tokens)),
      [BODY.lastPosition]: () => own(Tensor.from("int32", [batch], this.lastPosition)),
      [BODY.totalLength]: () => own(Tensor.from("int32", [1], this.#totalLength)),
      [BODY.select]: () => own(Tensor.from("int32", [selected], this.select)),
      [STEERING.rows]: () => own(Tensor.from("int32", [batch, spec.layers], this.rows)),
      [STEERING.gain]: () => own(Tensor.from("float32", [batch, 1, 1], this.gain)),
      [STEERING.renorm]: () => own(Tensor.from("bool", [batch, 1, 1], this.renorm)),
      [BODY.hidden]: () => own(Tensor.from("float32", [selected, spec.hidden], this.hidden)),
      [STEERING.projections]: () => own(Tensor.from("float32", [batch, sequence, spec.layers], this.projections)),
      [BODY.residuals]: () => own(Tensor.from("float32", [batch, sequence, spec.layers, spec.hidden], this.residuals)),
    };
    for (const [name, tensor] of Object.entries(shared)) offered[name] = () => tensor;
    cache.forEach(({ key, value }, layer) => {
      offered[BODY.pastKey(layer)] = () => key;
      offered[BODY.pastValue(layer)] = () => value;
      offered[BODY.presentKey(layer)] = () => key;
      offered[BODY.presentValue(layer)] = () => value;
    });
    const pick = (infos: Session["inputs"]) =>
      Object.fromEntries(infos.flatMap(({ name }) => (offered[name] === undefined ? [] : [[name, offered[name]()]])));
    this.#session = session;
    try {
      this.#binding = session.bind({ inputs: pick(session.inputs), outputs: pick(session.outputs) });
    } catch (error) {
      for (const tensor of this.#tensors) tensor.close();
      throw error;
    }
  }

  /** Run with what the inputs hold now. @throws as `Session.run` */
  run(signal?: AbortSignal): Promise<void> {
    this.#totalLength[0] = this.lastPosition.reduce((longest, position) => Math.max(longest, position), 0) + 1;
    return this.#session.run(this.#binding, signal === undefined ? {} : { signal });
  }

  [Symbol.dispose](): void {
    this.#binding.close();
    for (const tensor of this.#tensors) tensor.close();
  }
}
