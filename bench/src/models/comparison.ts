import { dirname, join } from "node:path";
import { BodyBatch, KvCache, type RunnableModel } from "@persona-mesh/model/runtime";
import { Session, SharedWeights, Tensor } from "@persona-mesh/onnx";

/** The serving body, and those that it is compared with. */
export type BodyKind = "off" | "add" | "full";

const FILES: Record<BodyKind, string> = { off: "body-off", add: "body-add", full: "body" };

/** Bodies with more and less steering over one copy of the weights, one cache and one table. */
export class Comparison implements Disposable {
  readonly #model: RunnableModel;
  readonly #weights: SharedWeights;
  readonly #sessions: ReadonlyMap<BodyKind, Session>;
  readonly #cache: KvCache;
  readonly #table: Tensor;
  readonly #batches: BodyBatch[] = [];

  /** @param table - float32[rows, hidden] */
  static async open(model: RunnableModel, slots: number, table: Float32Array): Promise<Comparison> {
    const weights = SharedWeights.open(
      model.weightsPath,
      model.weights.map(({ dtype, ...rest }) => ({ ...rest, type: dtype })),
    );
    const sessions = new Map<BodyKind, Session>();
    for (const [kind, file] of Object.entries(FILES) as [BodyKind, string][]) {
      sessions.set(kind, await Session.load(join(dirname(model.weightsPath), `${file}.onnx`), { weights }));
    }
    weights.adviseUnneeded();
    return new Comparison(model, weights, sessions, slots, table);
  }

  private constructor(
    model: RunnableModel,
    weights: SharedWeights,
    sessions: ReadonlyMap<BodyKind, Session>,
    slots: number,
    table: Float32Array,
  ) {
    this.#model = model;
    this.#weights = weights;
    this.#sessions = sessions;
    this.#cache = new KvCache(model.spec, slots);
    this.#table = Tensor.from("float32", [table.length / model.spec.hidden, model.spec.hidden], table);
  }

  /** A decode step of `count` rows at `position`, every row at gain 1 with table row 0. */
  decode(kind: BodyKind, count: number, position: number): BodyBatch {
    const session = this.#sessions.get(kind);
    if (session === undefined) throw new Error(`no body "${kind}"`);
    const shape = { batch: count, sequence: 1, selected: count };
    const batch = new BodyBatch(session, this.#model.spec, shape, this.#cache.view(0, count), this.#table);
    batch.tokens.fill(7);
    batch.lastPosition.fill(position);
    batch.select.forEach((_, row) => {
      batch.select[row] = row;
    });
    batch.gain.fill(1);
    this.#batches.push(batch);
    return batch;
  }

  [Symbol.dispose](): void {
    for (const batch of this.#batches) batch[Symbol.dispose]();
    for (const session of this.#sessions.values()) session.close();
    this.#cache[Symbol.dispose]();
    this.#table.close();
    this.#weights.close();
  }
}
