import { dirname, join } from "node:path";
import { HEAD, STEERING } from "@persona-mesh/model/graph";
import {
  BodyBatch,
  HeadBatch,
  type HeadRole,
  KvCache,
  type RunnableModel,
  ropeTensors,
} from "@persona-mesh/model/runtime";
import { Session, SharedWeights, Tensor, useHugePages } from "@persona-mesh/onnx";

/** The serving bodies, without rescaling and with, and those that they are compared with. */
export type BodyKind = "off" | "add" | "served" | "full";

const FILES: Record<BodyKind, string> = { off: "body-off", add: "body-add", served: "body", full: "body-renorm" };

/** The head of the common decode step, and the least that can be drawn from. */
const HEADS = ["head-top", "head-logits"] as const satisfies HeadRole[];

/** Bodies with more and less steering, and heads, over one copy of the weights, one cache and one table. */
export class Comparison implements Disposable {
  readonly #model: RunnableModel;
  readonly #weights: SharedWeights;
  readonly #sessions: ReadonlyMap<BodyKind | HeadRole, Session>;
  readonly #cache: KvCache;
  readonly #shared: Readonly<Record<string, Tensor>>;
  readonly #batches: (BodyBatch | HeadBatch)[] = [];

  /** @param table - float32[rows, hidden] */
  static async open(model: RunnableModel, slots: number, table: Float32Array): Promise<Comparison> {
    const weights = SharedWeights.open(
      model.weightsPath,
      model.weights.map(({ dtype, ...rest }) => ({ ...rest, type: dtype })),
    );
    const sessions = new Map<BodyKind | HeadRole, Session>();
    const files = [...Object.entries(FILES), ...HEADS.map((role) => [role, role])] as [BodyKind | HeadRole, string][];
    for (const [kind, file] of files) {
      sessions.set(kind, await Session.load(join(dirname(model.weightsPath), `${file}.onnx`), { weights }));
    }
    weights.adviseUnneeded();
    await useHugePages();
    return new Comparison(model, weights, sessions, slots, table);
  }

  private constructor(
    model: RunnableModel,
    weights: SharedWeights,
    sessions: ReadonlyMap<BodyKind | HeadRole, Session>,
    slots: number,
    table: Float32Array,
  ) {
    this.#model = model;
    this.#weights = weights;
    this.#sessions = sessions;
    const { hidden, contextTokens } = model.spec;
    this.#cache = new KvCache(model.spec, slots, contextTokens);
    this.#shared = {
      [STEERING.table]: Tensor.from("float32", [table.length / hidden, hidden], table),
      ...ropeTensors(model.spec, contextTokens),
    };
  }

  /** A decode step of `count` rows at `position`, every row at gain 1 with table row 0. */
  decode(kind: BodyKind, count: number, position: number): BodyBatch {
    const session = this.#session(kind);
    const shape = { batch: count, sequence: 1, selected: count };
    const batch = new BodyBatch(
      { plain: session, renorm: session },
      this.#model.spec,
      shape,
      this.#cache.view(0, count),
      this.#shared,
    );
    batch.tokens.fill(7);
    batch.lastPosition.fill(position);
    batch.select.forEach((_, row) => {
      batch.select[row] = row;
    });
    batch.gain.fill(1);
    this.#batches.push(batch);
    return batch;
  }

  /** A head over `count` hidden states, at temperature 1. */
  head(role: (typeof HEADS)[number], count: number): HeadBatch {
    const batch = new HeadBatch(this.#session(role), this.#model.spec, count);
    if (role === "head-top") batch.floats(HEAD.inverseTemperature).fill(1);
    this.#batches.push(batch);
    return batch;
  }

  #session(kind: BodyKind | HeadRole): Session {
    const session = this.#sessions.get(kind);
    if (session === undefined) throw new Error(`no graph "${kind}"`);
    return session;
  }

  [Symbol.dispose](): void {
    for (const batch of this.#batches) batch[Symbol.dispose]();
    for (const session of this.#sessions.values()) session.close();
    this.#cache[Symbol.dispose]();
    for (const tensor of Object.values(this.#shared)) tensor.close();
    this.#weights.close();
  }
}
