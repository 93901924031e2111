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

interface BoundGraph {
  readonly session: Session;
  readonly binding: Binding;
}

/** Graphs of one kind of body run. */
export interface BodySessions {
  /** For runs in which no row is rescaled. */
  readonly plain: Session;
  /** For the others; may be the same. What both have, inputs and outputs, they share. */
  readonly renorm: Session;
}

/**
 * The buffers of one kind of body run, bound once to its sessions and the KV cache.
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
  readonly #plain: BoundGraph;
  readonly #renorm: BoundGraph;
  readonly #tensors: Tensor[] = [];
  readonly #totalLength = new Int32Array(1);

  constructor(
    sessions: BodySessions,
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
    const gives = new Set([sessions.plain, sessions.renorm].flatMap(({ outputs }) => outputs.map(({ name }) => name)));
    const extent = (output: string, elements: number) => (gives.has(output) ? elements : 0);
    this.projections = new Float32Array(extent(STEERING.projections, batch * sequence * spec.layers));
    this.residuals = new Float32Array(extent(BODY.residuals, batch * sequence * spec.layers * spec.hidden));

    const offered: Record<string, () => Tensor> = {
      [BODY.tokens]: () => Tensor.from("int32", [batch, sequence], this.tokens),
      [BODY.lastPosition]: () => Tensor.from("int32", [batch], this.lastPosition),
      [BODY.totalLength]: () => Tensor.from("int32", [1], this.#totalLength),
      [BODY.select]: () => Tensor.from("int32", [selected], this.select),
      [STEERING.rows]: () => Tensor.from("int32", [batch, spec.layers], this.rows),
      [STEERING.gain]: () => Tensor.from("float32", [batch, 1, 1], this.gain),
      [STEERING.renorm]: () => Tensor.from("bool", [batch, 1, 1], this.renorm),
      [BODY.hidden]: () => Tensor.from("float32", [selected, spec.hidden], this.hidden),
      [STEERING.projections]: () => Tensor.from("float32", [batch, sequence, spec.layers], this.projections),
      [BODY.residuals]: () => Tensor.from("float32", [batch, sequence, spec.layers, spec.hidden], this.residuals),
    };
    // Made when a graph asks for it, and once for both.
    const bound = new Map(Object.entries(shared));
    cache.forEach(({ key, value }, layer) => {
      bound.set(BODY.pastKey(layer), key).set(BODY.presentKey(layer), key);
      bound.set(BODY.pastValue(layer), value).set(BODY.presentValue(layer), value);
    });
    const tensorOf = (name: string): Tensor | undefined => {
      const made = bound.get(name);
      if (made !== undefined) return made;
      const tensor = offered[name]?.();
      if (tensor === undefined) return undefined;
      this.#tensors.push(tensor);
      bound.set(name, tensor);
      return tensor;
    };
    const pick = (infos: Session["inputs"]) =>
      Object.fromEntries(
        infos.flatMap(({ name }) => {
          const tensor = tensorOf(name);
          return tensor === undefined ? [] : [[name, tensor]];
        }),
      );
    const bind = (session: Session): BoundGraph => {
      return { session, binding: session.bind({ inputs: pick(session.inputs), outputs: pick(session.outputs) }) };
    };
    const { plain, renorm } = sessions;
    try {
      this.#plain = bind(plain);
      this.#renorm = plain === renorm ? this.#plain : bind(renorm);
    } catch (error) {
      this.#release();
      throw error;
    }
  }

  /** Run with what the inputs hold now. @throws as `Session.run` */
  run(signal?: AbortSignal): Promise<void> {
    this.#totalLength[0] = this.lastPosition.reduce((longest, position) => Math.max(longest, position), 0) + 1;
    const { session, binding } = this.renorm.some((rescaled) => rescaled !== 0) ? this.#renorm : this.#plain;
    return session.run(binding, signal === undefined ? {} : { signal });
  }

  [Symbol.dispose](): void {
    this.#release();
  }

  #release(): void {
    this.#plain?.binding.close();
    this.#renorm?.binding.close();
    for (const tensor of this.#tensors) tensor.close();
  }
}
