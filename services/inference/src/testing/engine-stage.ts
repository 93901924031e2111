import { ModelRuntime, type RunnableModel } from "@persona-mesh/model/runtime";
import { Engine, type EngineOptions } from "../engine/engine.ts";
import type { GeneratingJob } from "../engine/engine-job.ts";
import type { TopState } from "../engine/heads.ts";
import { type PersonaSource, WornPersona } from "../engine/worn-persona.ts";
import type { LoadedPersona } from "../personas/loaded-persona.ts";
import type { Ending, RowOutcome } from "../scheduler/index.ts";
import { SteeringTable } from "../table/index.ts";

/** An engine over a model, and a diary of what happened, in order: `job token`, `job ended how`. */
export interface Stage {
  readonly engine: Engine;
  readonly table: SteeringTable;
  readonly runtime: ModelRuntime;
  readonly diary: string[];
  readonly failures: unknown[];
  worn(persona?: LoadedPersona | (() => LoadedPersona | undefined)): WornPersona;
}

interface StageOptions extends Partial<EngineOptions> {
  readonly slots: number;
  /** @default 8 */
  readonly tableRows?: number;
  /** Takes on what becomes current while a job runs. @default false */
  readonly follow?: boolean;
  /** @default the model's */
  readonly contextTokens?: number;
}

/** Chunks of four and a queue of eight where nothing else is asked for. @param resources - what closes it */
export async function openEngine(
  model: RunnableModel,
  resources: AsyncDisposableStack,
  { slots, tableRows = 8, follow = false, contextTokens, ...options }: StageOptions,
): Promise<Stage> {
  const { spec } = model;
  const table = new SteeringTable({ rows: tableRows, hidden: spec.hidden, layers: spec.layers });
  const context = contextTokens === undefined ? {} : { contextTokens };
  const runtime = resources.use(await ModelRuntime.open(model, { slots, table: table.values, threads: 1, ...context }));
  const failures: unknown[] = [];
  const onStepFailed = (error: unknown) => failures.push(error);
  const engine = new Engine(runtime, { chunkTokens: 4, queueCapacity: 8, onStepFailed, ...options });
  resources.defer(() => engine.stop());
  const worn = (persona?: LoadedPersona | (() => LoadedPersona | undefined)) => {
    const current: PersonaSource["current"] = typeof persona === "function" ? persona : () => persona;
    return new WornPersona(table, { current, follow, gain: 1 });
  };
  return { engine, table, runtime, diary: [], failures, worn };
}

export interface Script {
  /** @default 3 */
  readonly tokens?: number;
  readonly prompt?: readonly number[];
  /** What is charged for the reply, however long it gets. @default 0 */
  readonly replyTokens?: number;
  /** @default "acme" */
  readonly tenant?: string;
  readonly persona?: LoadedPersona | (() => LoadedPersona | undefined);
  readonly reusePrefix?: boolean;
  /** Called for every token; what it returns replaces the usual outcome. */
  readonly onToken?: (count: number) => RowOutcome | undefined;
  readonly onStep?: () => void;
  readonly onEnded?: () => void;
}

/** Greedy, for a number of tokens; writes down what happens to it. */
export class Greedy implements GeneratingJob {
  readonly kind = "generate";
  readonly tenant: string;
  readonly prompt: Int32Array;
  readonly tokens: number;
  readonly replyTokens: number;
  readonly sampling = { temperature: 0 };
  readonly id: string;
  readonly worn: WornPersona;
  readonly reusePrefix: boolean;
  readonly reply: number[] = [];
  /** Of every token, the logits of the likeliest ones. */
  readonly logits: Float32Array[] = [];
  readonly over: Promise<Ending>;
  cachedTokens = 0;
  #end: (ending: Ending) => void;
  readonly #script: Script;
  readonly #diary: string[];

  constructor(id: string, stage: Stage, script: Script = {}) {
    this.id = id;
    this.tenant = script.tenant ?? "acme";
    this.worn = stage.worn(script.persona);
    this.prompt = Int32Array.from(script.prompt ?? [1, 2, 3, 4, 5, 6]);
    this.tokens = this.prompt.length;
    this.replyTokens = script.replyTokens ?? 0;
    this.reusePrefix = script.reusePrefix ?? true;
    this.#script = script;
    this.#diary = stage.diary;
    const { promise, resolve } = Promise.withResolvers<Ending>();
    this.over = promise;
    this.#end = resolve;
  }

  get nextToken(): number {
    return this.reply.at(-1) as number;
  }

  prefixFound({ cachedTokens }: { cachedTokens: number }): void {
    this.cachedTokens = cachedTokens;
  }

  beforeStep(): void {
    this.#script.onStep?.();
  }

  async sample(_: unknown, { row }: TopState): Promise<RowOutcome> {
    if (row.kind !== "top") throw new Error(`the top head gave ${row.kind}`);
    this.reply.push(row.ids[0] as number);
    this.logits.push(row.logits.slice());
    this.#diary.push(`${this.id} ${this.reply.length}`);
    const told = this.#script.onToken?.(this.reply.length);
    if (told !== undefined) return told;
    return this.reply.length < (this.#script.tokens ?? 3)
      ? { kind: "continue" }
      : { kind: "finish", reason: "maxTokens" };
  }

  ended(ending: Ending): void {
    this.#diary.push(`${this.id} ${ending.kind}`);
    this.#end(ending);
    this.#script.onEnded?.();
  }
}

/** Submit jobs, and wait until all of them are over. */
export async function run({ engine }: Stage, ...jobs: readonly Greedy[]): Promise<Ending[]> {
  for (const job of jobs) engine.submit(job);
  return Promise.all(jobs.map(({ over }) => over));
}
