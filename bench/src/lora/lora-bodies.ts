import { writeFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { buildBody, FLOAT32, type Precision, STEERING } from "@persona-mesh/model/graph";
import { BodyBatch, KvCache, type RunnableModel, ropeTensors } from "@persona-mesh/model/runtime";
import { Session, SharedWeights, Tensor, useHugePages } from "@persona-mesh/onnx";
import type { AdapterPool } from "./adapter-pool.ts";
import { type AdapterSource, LoraWeights } from "./lora-weights.ts";

/** Steering compiled out, the addition in all layers, and an adapter on all projections. */
export type LoraBodyKind = "off" | "add" | AdapterSource;

const FILES: Record<LoraBodyKind, string> = {
  off: "body-off",
  add: "body-add",
  shared: "body-lora-shared",
  gathered: "body-lora-gathered",
  placed: "body-lora-placed",
};

const SOURCES = ["shared", "gathered", "placed"] as const satisfies AdapterSource[];

/** Bodies with and without steering and adapters, over one copy of the weights. */
export class LoraBodies implements Disposable {
  readonly #model: RunnableModel;
  readonly #weights: SharedWeights;
  readonly #sessions: ReadonlyMap<LoraBodyKind, Session>;
  readonly #cache: KvCache;
  readonly #table: Tensor;
  readonly #rope: Readonly<Record<string, Tensor>>;
  readonly #pool: AdapterPool;
  readonly #batches: BodyBatch[] = [];

  /**
   * @param slots - rows of the cache, empty, that all batches share
   * @param table - float32[rows, hidden]
   * @param pool - stays the caller's
   */
  static async open(
    model: RunnableModel & { readonly precision?: Precision },
    slots: number,
    table: Float32Array,
    pool: AdapterPool,
  ): Promise<LoraBodies> {
    const folder = dirname(model.weightsPath);
    for (const source of SOURCES) {
      const declared = new LoraWeights(model.weights, basename(model.weightsPath), source, model.precision ?? FLOAT32);
      const graph = buildBody(model.spec, declared, { steering: "off", residuals: false });
      writeFileSync(join(folder, `${FILES[source]}.onnx`), graph);
    }
    const weights = SharedWeights.open(
      model.weightsPath,
      model.weights.map(({ dtype, ...rest }) => ({ ...rest, type: dtype })),
    );
    const sessions = new Map<LoraBodyKind, Session>();
    for (const [kind, file] of Object.entries(FILES) as [LoraBodyKind, string][]) {
      sessions.set(kind, await Session.load(join(folder, `${file}.onnx`), { weights }));
    }
    weights.adviseUnneeded();
    await useHugePages();
    return new LoraBodies(model, weights, sessions, slots, table, pool);
  }

  private constructor(
    model: RunnableModel,
    weights: SharedWeights,
    sessions: ReadonlyMap<LoraBodyKind, Session>,
    slots: number,
    table: Float32Array,
    pool: AdapterPool,
  ) {
    this.#model = model;
    this.#weights = weights;
    this.#sessions = sessions;
    this.#pool = pool;
    const { hidden, contextTokens } = model.spec;
    this.#cache = new KvCache(model.spec, slots, contextTokens);
    this.#table = Tensor.from("float32", [table.length / hidden, hidden], table);
    this.#rope = ropeTensors(model.spec, contextTokens);
  }

  /**
   * A decode step of `count` rows at `position`.
   *
   * @param adapters - int32[count], each row's, for `gathered`; read at every run
   */
  decode(kind: LoraBodyKind, count: number, position: number, adapters = new Int32Array(count)): BodyBatch {
    const session = this.#sessions.get(kind);
    if (session === undefined) throw new Error(`no graph "${kind}"`);
    const { spec } = this.#model;
    const lora = kind === "off" || kind === "add" ? {} : this.#pool.inputs(kind, count, adapters);
    const batch = new BodyBatch(
      { plain: session, renorm: session },
      spec,
      { batch: count, sequence: 1, selected: count },
      this.#cache.view(0, count),
      { [STEERING.table]: this.#table, ...this.#rope, ...lora },
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

  [Symbol.dispose](): void {
    for (const batch of this.#batches) batch[Symbol.dispose]();
    for (const session of this.#sessions.values()) session.close();
    this.#cache[Symbol.dispose]();
    this.#table.close();
    for (const tensor of Object.values(this.#rope)) tensor.close();
    this.#weights.close();
  }
}
