import { setImmediate } from "node:timers/promises";
import type { BodyBatch, ModelRuntime } from "@persona-mesh/model/runtime";
import { ServiceError } from "@persona-mesh/service";
import { effectiveAlpha } from "@persona-mesh/steering";
import {
  type Admission,
  type DecodeStep,
  type Ended,
  FifoQueue,
  type PrefillStep,
  type RowOutcome,
  Scheduler,
  type SchedulerFigures,
} from "../scheduler/index.ts";
import type { EngineJob, GeneratingJob, ReadingJob, TokenState } from "./engine-job.ts";
import { Heads } from "./heads.ts";
import { UNSTEERED, writeSteering } from "./row-steering.ts";

export interface EngineOptions {
  /** Positions per prefill step: bounds how long running streams wait for a long prompt. */
  readonly chunkTokens: number;
  /** Most requests that may wait for a slot. */
  readonly queueCapacity: number;
  /** Told about a step that the runtime could not compute. */
  readonly onStepFailed: (error: unknown) => void;
}

/**
 * Runs the continuous batch on the model: plan, run, sample, feed back, for ever.
 *
 * The loop is the only writer of the runtime's buffers, and nothing but the loop runs between two steps; so what
 * a job does in its callbacks is safe to touch the steering table.
 */
export class Engine {
  readonly #runtime: ModelRuntime;
  readonly #scheduler: Scheduler<EngineJob>;
  readonly #heads: Heads;
  readonly #options: EngineOptions;
  readonly #running: Promise<void>;
  #wake: () => void = () => {};
  #stopped = false;

  constructor(runtime: ModelRuntime, options: EngineOptions) {
    this.#runtime = runtime;
    this.#options = options;
    this.#heads = new Heads(runtime);
    this.#scheduler = new Scheduler<EngineJob>({
      slots: runtime.slots,
      contextTokens: runtime.contextTokens,
      chunkTokens: options.chunkTokens,
      queue: new FifoQueue(options.queueCapacity),
      admit: (job): Admission => job.worn.admit(),
    });
    this.#running = this.#loop();
  }

  /**
   * Put a job into the queue. It hears of its end through `ended`.
   *
   * @throws ServiceError QUEUE_FULL, DRAINING
   */
  submit(job: EngineJob): void {
    const submission = this.#scheduler.submit(job);
    if (submission.kind === "refused") {
      throw new ServiceError(
        submission.reason,
        submission.reason === "QUEUE_FULL"
          ? `${this.#options.queueCapacity} requests wait already`
          : "the worker is shutting down",
      );
    }
    this.#wake();
  }

  /** End a job that nobody wants any more; its slot is free at the next step. */
  cancel(id: string): void {
    this.#deliver(this.#scheduler.cancel(id));
  }

  figures(): SchedulerFigures {
    return this.#scheduler.figures();
  }

  /** End everything and wait for the step in flight. The runtime can be disposed afterwards. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#deliver(this.#scheduler.stop());
    this.#wake();
    await this.#running;
  }

  async #loop(): Promise<void> {
    while (!this.#stopped) {
      const { step, ended } = this.#scheduler.plan();
      this.#deliver(ended);
      if (step === undefined) await this.#idle();
      else if (step.kind === "prefill") await this.#run(step, () => this.#prefill(step));
      else await this.#run(step, () => this.#decode(step));
      // Arrivals, cancels and streams get their turn between steps even if every run ends at once.
      await setImmediate();
    }
  }

  async #run(step: PrefillStep<EngineJob> | DecodeStep<EngineJob>, compute: () => Promise<Ended<EngineJob>[]>) {
    let ended: readonly Ended<EngineJob>[];
    try {
      ended = await compute();
    } catch (error) {
      this.#options.onStepFailed(error);
      const failure = new ServiceError("STEP_FAILED", "the runtime failed in a step of this request", { cause: error });
      ended = this.#scheduler.failStep(step, failure);
    }
    this.#deliver(ended);
  }

  async #prefill(step: PrefillStep<EngineJob>): Promise<Ended<EngineJob>[]> {
    const { job, start, end } = step;
    if (job.kind === "generate") job.beforeStep();
    const wanted = job.kind === "generate" ? [] : job.select(step);
    const length = end - start;
    // The graph needs a position to select; the last one is free.
    const select = wanted.length === 0 ? [length - 1] : wanted;
    const residuals = job.kind === "prefill" && job.residuals;
    const keep = length === this.#options.chunkTokens && select.length === 1 && !residuals;
    const batch = this.#runtime.chunkBatch(
      step.slot,
      { sequence: length, selected: select.length },
      { residuals, keep },
    );
    try {
      batch.tokens.set(job.prompt.subarray(start, end));
      batch.lastPosition[0] = end - 1;
      batch.select.set(select);
      writeSteering(batch, 0, this.#runtime.spec.layers, job.worn.steering, step.phase);
      await batch.run();
      return this.#scheduler.completePrefill(step, await this.#outcomeOfChunk(step, job, batch));
    } finally {
      if (!keep) batch[Symbol.dispose]();
    }
  }

  async #outcomeOfChunk(step: PrefillStep<EngineJob>, job: EngineJob, batch: BodyBatch): Promise<RowOutcome> {
    if (!batch.hidden.every(Number.isFinite)) return overflow(job);
    if (job.kind === "prefill") return (job satisfies ReadingJob).read({ step, batch }, this.#heads);
    if (!step.isLast) return { kind: "continue" };
    const layers = this.#runtime.spec.layers;
    const projections = batch.projections.slice(-layers);
    const [outcome] = await this.#sample([{ job, state: { hidden: batch.hidden.slice(), projections } }]);
    return outcome as RowOutcome;
  }

  async #decode(step: DecodeStep<EngineJob>): Promise<Ended<EngineJob>[]> {
    const { layers, hidden } = this.#runtime.spec;
    const batch = this.#runtime.decodeBatch(step.rows.length);
    const sampled: { slot: number; job: GeneratingJob; state: TokenState }[] = [];
    step.rows.forEach((row, slot) => {
      batch.lastPosition[slot] = row.position;
      if (row.kind === "decode" && row.job.kind === "generate") {
        row.job.beforeStep();
        batch.tokens[slot] = row.job.nextToken;
        writeSteering(batch, slot, layers, row.job.worn.steering, "generated");
        const state = {
          hidden: batch.hidden.subarray(slot * hidden, (slot + 1) * hidden),
          projections: batch.projections.subarray(slot * layers, (slot + 1) * layers),
        };
        sampled.push({ slot, job: row.job, state });
      } else {
        batch.tokens[slot] = 0;
        writeSteering(batch, slot, layers, UNSTEERED, "generated");
      }
    });
    await batch.run();
    const outcomes: (RowOutcome | undefined)[] = new Array(step.rows.length);
    const results = await this.#sample(sampled);
    sampled.forEach(({ slot }, index) => {
      outcomes[slot] = results[index];
    });
    return this.#scheduler.completeDecode(step, outcomes);
  }

  /** Next token of each row. One row's NaN or failure is its own. */
  async #sample(rows: readonly { job: GeneratingJob; state: TokenState }[]): Promise<RowOutcome[]> {
    const top = await this.#heads.top(
      rows.map(({ state }) => state.hidden),
      rows.map(({ job }) => job.sampling.temperature),
    );
    const outcomes: RowOutcome[] = [];
    for (const [index, { job, state }] of rows.entries()) {
      const row = top[index];
      if (row === undefined) throw new Error("the head gave fewer rows than it was given");
      try {
        outcomes.push(Number.isFinite(row.entropy) ? await job.sample(state, row, this.#heads) : overflow(job));
      } catch (error) {
        outcomes.push({ kind: "fail", error });
      }
    }
    return outcomes;
  }

  #deliver(ended: readonly Ended<EngineJob>[]): void {
    for (const { job, ending } of ended) {
      job.worn.release();
      try {
        job.ended(ending);
      } catch (error) {
        // One request's trouble: the batch goes on.
        this.#options.onStepFailed(error);
      }
    }
  }

  #idle(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = resolve;
      // A job may have arrived since the plan was made.
      if (this.#stopped || !this.#scheduler.empty) resolve();
    });
  }
}

/** The row left the range of finite numbers: steering's doing where the job is steered, else the model's own. */
function overflow(job: EngineJob): RowOutcome {
  const { persona, gain } = job.worn;
  if (persona === undefined) {
    return { kind: "fail", error: new ServiceError("STEP_FAILED", "the model gave NaN or infinity for this request") };
  }
  const layers = [...persona.rows.keys()].join(",");
  const alpha = String(effectiveAlpha([persona.largestAlphaHundredths], gain) / 100);
  return {
    kind: "fail",
    error: new ServiceError(
      "STEERING_OVERFLOW",
      `the residual left the range of finite numbers at alpha ${alpha}, layers ${layers}`,
      { metadata: { alpha, layers } },
    ),
  };
}
