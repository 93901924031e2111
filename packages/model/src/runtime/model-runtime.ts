import { Session, SharedWeights, Tensor, useHugePages } from "@persona-mesh/onnx";
import { BODY, type DecoderSpec, type GraphRole, ropeTables, STEERING, type WeightLocation } from "../graph/index.ts";
import { type BatchShape, BodyBatch } from "./body-batch.ts";
import { HeadBatch } from "./head-batch.ts";
import { KvCache } from "./kv-cache.ts";

/** What of a model package is needed to run it. */
export interface RunnableModel {
  readonly spec: DecoderSpec;
  /** Path of a graph. */
  readonly graphPath: (role: GraphRole) => string;
  /** Path of the weights file. */
  readonly weightsPath: string;
  readonly weights: readonly WeightLocation[];
}

export interface ModelRuntimeOptions {
  /** Sequences whose KV is held at once. */
  readonly slots: number;
  /**
   * Positions of a sequence, at most the model's.
   *
   * @default the model's
   */
  readonly contextTokens?: number;
  /** The steering table, float32[rows, hidden]; row 0 is all zeros. Its owner writes it between body runs only. */
  readonly table: Float32Array;
  /**
   * Threads of its own that each graph shares an operator between; they sleep when they have no work.
   *
   * @default none: the graphs run on the process's, see `shareThreads` of `@persona-mesh/onnx`
   */
  readonly threads?: number;
}

type BodyRole = "body" | "body-capture";
export type HeadRole = Extract<GraphRole, `head-${string}`>;

/** Weights below are in the processor's caches, or nearly. */
const HUGE_PAGES_FROM_BYTES = 64 << 20;

const ROLES: readonly GraphRole[] = [
  "body",
  "body-renorm",
  "body-capture",
  "head-top",
  "head-logits",
  "head-score",
  "head-divergence",
];

/**
 * A model ready to run: its graphs over one copy of the weights, and the KV cache.
 *
 * One body run at a time: every body reads and writes the same cache. Heads only read what their caller gives them.
 */
export class ModelRuntime implements Disposable {
  readonly spec: DecoderSpec;
  readonly slots: number;
  readonly contextTokens: number;
  readonly cacheBytes: number;
  readonly #weights: SharedWeights;
  readonly #sessions: ReadonlyMap<GraphRole, Session>;
  readonly #cache: KvCache;
  /** Inputs that every body run reads: the steering table and the rotary tables. */
  readonly #shared: Readonly<Record<string, Tensor>>;
  readonly #kept = new Map<string, BodyBatch | HeadBatch>();

  static async open(model: RunnableModel, options: ModelRuntimeOptions): Promise<ModelRuntime> {
    const weights = SharedWeights.open(
      model.weightsPath,
      model.weights.map(({ dtype, ...rest }) => ({ ...rest, type: dtype })),
    );
    const sessions = new Map<GraphRole, Session>();
    try {
      for (const role of ROLES) {
        sessions.set(
          role,
          await Session.load(model.graphPath(role), {
            weights,
            ...(options.threads === undefined ? {} : { intraOpThreads: options.threads }),
          }),
        );
      }
      // What the kernels rearranged is not read from the file again.
      weights.adviseUnneeded();
      if (weights.byteLength >= HUGE_PAGES_FROM_BYTES) await useHugePages();
      return new ModelRuntime(model.spec, weights, sessions, options);
    } catch (error) {
      for (const session of sessions.values()) session.close();
      weights.close();
      throw error;
    }
  }

  private constructor(
    spec: DecoderSpec,
    weights: SharedWeights,
    sessions: ReadonlyMap<GraphRole, Session>,
    options: ModelRuntimeOptions,
  ) {
    this.spec = spec;
    this.slots = options.slots;
    this.contextTokens = options.contextTokens ?? spec.contextTokens;
    this.#weights = weights;
    this.#sessions = sessions;
    this.#cache = new KvCache(spec, options.slots, this.contextTokens);
    this.cacheBytes = this.#cache.byteLength;
    this.#shared = {
      [STEERING.table]: Tensor.from("float32", [options.table.length / spec.hidden, spec.hidden], options.table),
      ...ropeTensors(spec, this.contextTokens),
    };
  }

  /** Floats of keys and values that one position takes. */
  get cachedElements(): number {
    return this.#cache.positionElements;
  }

  /**
   * Copy keys and values of some positions of a slot out, between runs.
   *
   * @param into - float32[positions · {@link cachedElements}], in an order that only {@link writeCache} needs to know
   */
  readCache(slot: number, start: number, into: Float32Array): void {
    this.#cache.read(slot, start, into);
  }

  /** Put back, into any slot at the same positions, what {@link readCache} gave: a prefill would compute the same. */
  writeCache(slot: number, start: number, from: Float32Array): void {
    this.#cache.write(slot, start, from);
  }

  /** Buffers of a decode step over slots 0 … count − 1, one hidden state each. Kept and reused. */
  decodeBatch(count: number): BodyBatch {
    return this.#keep(`decode ${count}`, () => {
      const batch = this.#body("body", 0, { batch: count, sequence: 1, selected: count });
      batch.select.forEach((_, row) => {
        batch.select[row] = row;
      });
      return batch;
    });
  }

  /**
   * Buffers of a prefill chunk of one slot.
   *
   * @param keep - reuse them for the next chunk of this extent, for extents that come again; else the caller disposes
   */
  chunkBatch(
    slot: number,
    extent: { readonly sequence: number; readonly selected: number },
    options: { readonly residuals?: boolean; readonly keep?: boolean } = {},
  ): BodyBatch {
    const role: BodyRole = options.residuals === true ? "body-capture" : "body";
    const make = () => this.#body(role, slot, { batch: 1, ...extent });
    if (options.keep !== true) return make();
    return this.#keep(`${role} ${slot} ${extent.sequence} ${extent.selected}`, make);
  }

  /** Buffers of a head for `rows` hidden states. Kept and reused. */
  headBatch(role: HeadRole, rows: number): HeadBatch {
    return this.#keep(`${role} ${rows}`, () => new HeadBatch(this.#session(role), this.spec, rows));
  }

  [Symbol.dispose](): void {
    for (const batch of this.#kept.values()) batch[Symbol.dispose]();
    this.#kept.clear();
    for (const session of this.#sessions.values()) session.close();
    this.#cache[Symbol.dispose]();
    for (const tensor of Object.values(this.#shared)) tensor.close();
    this.#weights.close();
  }

  #body(role: BodyRole, firstSlot: number, shape: BatchShape): BodyBatch {
    const cache = this.#cache.view(firstSlot, shape.batch);
    const sessions =
      role === "body"
        ? { plain: this.#session("body"), renorm: this.#session("body-renorm") }
        : { plain: this.#session(role), renorm: this.#session(role) };
    return new BodyBatch(sessions, this.spec, shape, cache, this.#shared);
  }

  #keep<Batch extends BodyBatch | HeadBatch>(key: string, make: () => Batch): Batch {
    const kept = this.#kept.get(key);
    if (kept !== undefined) return kept as Batch;
    const made = make();
    this.#kept.set(key, made);
    return made;
  }

  #session(role: GraphRole): Session {
    const session = this.#sessions.get(role);
    if (session === undefined) throw new Error(`the model has no graph "${role}"`);
    return session;
  }
}

/** The rotary tables of a context, by the names that bodies have for them; to be closed by the caller. */
export function ropeTensors(spec: DecoderSpec, positions: number): Record<string, Tensor> {
  const tensors: Record<string, Tensor> = {};
  for (const [index, rope] of spec.ropes.entries()) {
    const { cos, sin } = ropeTables(rope, positions);
    const shape = [positions, rope.rotaryDim / 2];
    tensors[BODY.ropeCos(index)] = Tensor.from("float32", shape, cos);
    tensors[BODY.ropeSin(index)] = Tensor.from("float32", shape, sin);
  }
  return tensors;
}
