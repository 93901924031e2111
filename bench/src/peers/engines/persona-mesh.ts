import { readFileSync } from "node:fs";
import { join } from "node:path";
import { ModelRuntime, type RunnableModel } from "@persona-mesh/model/runtime";
import { shareThreads } from "@persona-mesh/onnx";
import { Engine } from "../../../../services/inference/src/engine/engine.ts";
import type { GeneratingJob } from "../../../../services/inference/src/engine/engine-job.ts";
import { WornPersona } from "../../../../services/inference/src/engine/worn-persona.ts";
import type { Ending, RowOutcome } from "../../../../services/inference/src/scheduler/index.ts";
import { SteeringTable } from "../../../../services/inference/src/table/index.ts";
import { type Batch, type EngineOptions, type Generated, type PeerEngine, Recorder } from "../peer-engine.ts";

/** As a worker has them unless told otherwise. */
const CHUNK_TOKENS = 128;
const TABLE_ROWS = 1024;

/** Where {@link openPersonaMesh} finds what a package's manifest says of a model that has none. */
export const MODEL_FILE = "model.json";

/** A {@link RunnableModel} without its paths, as it stands in the model's folder. */
export type StoredModel = Pick<RunnableModel, "spec" | "weights"> & { readonly weightsFile: string };

/** The engine of the inference service, with all that every request runs there: steering, top-k head, continuous batch. */
export async function openPersonaMesh(options: EngineOptions): Promise<PeerEngine> {
  const { spec, weights, weightsFile } = JSON.parse(
    readFileSync(join(options.model, MODEL_FILE), "utf8"),
  ) as StoredModel;
  const table = new SteeringTable({ rows: TABLE_ROWS, hidden: spec.hidden, layers: spec.layers });
  shareThreads({ threads: options.threads });
  const runtime = await ModelRuntime.open(
    {
      spec,
      weights,
      weightsPath: join(options.model, weightsFile),
      graphPath: (role) => join(options.model, `${role}.onnx`),
    },
    { slots: options.slots, contextTokens: options.contextTokens, table: table.values },
  );
  let failure: unknown;
  const engine = new Engine(runtime, {
    chunkTokens: CHUNK_TOKENS,
    queueCapacity: options.slots,
    onStepFailed: (error) => {
      failure = error;
    },
  });
  return {
    generate: async (batch) => {
      const recorder = new Recorder(batch.prompts.length);
      const jobs = batch.prompts.map((_, index) => new GreedyJob(index, batch, recorder, table));
      for (const job of jobs) engine.submit(job);
      for (const { kind } of await Promise.all(jobs.map(({ over }) => over))) {
        if (kind !== "finished") throw new Error(`a request ${kind}`, { cause: failure });
      }
      return recorder satisfies Generated;
    },
  };
}

/** The most likely token, over and over. */
class GreedyJob implements GeneratingJob {
  readonly kind = "generate";
  readonly tenant = "peers";
  readonly id: string;
  readonly prompt: Int32Array;
  readonly tokens: number;
  readonly worn: WornPersona;
  readonly sampling = { temperature: 0 };
  readonly over: Promise<Ending>;
  readonly ended: (ending: Ending) => void;
  readonly #index: number;
  readonly #batch: Batch;
  readonly #recorder: Recorder;

  constructor(index: number, batch: Batch, recorder: Recorder, table: SteeringTable) {
    const { promise, resolve } = Promise.withResolvers<Ending>();
    this.id = String(index);
    this.prompt = Int32Array.from(batch.prompts[index] as readonly number[]);
    this.tokens = this.prompt.length;
    this.worn = new WornPersona(table, { current: () => undefined, follow: false, gain: 1 });
    this.over = promise;
    this.ended = resolve;
    this.#index = index;
    this.#batch = batch;
    this.#recorder = recorder;
  }

  get nextToken(): number {
    return this.reply.at(-1) as number;
  }

  get reply(): readonly number[] {
    return this.#recorder.ids[this.#index] ?? [];
  }

  beforeStep(): void {}

  async sample(_state: unknown, top: Parameters<GeneratingJob["sample"]>[1]): Promise<RowOutcome> {
    const count = this.#recorder.token(this.#index, top.row.ids[0] as number);
    return count < this.#batch.tokens ? { kind: "continue" } : { kind: "finish", reason: "maxTokens" };
  }
}
