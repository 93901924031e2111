import { setImmediate } from "node:timers/promises";
import type { ModelRuntime } from "@persona-mesh/model/runtime";
import { OnnxRuntimeError } from "@persona-mesh/onnx";
import { ServiceError } from "@persona-mesh/service";
import { DEFAULT_SERVING, type ServingPolicy } from "../personas/serving-policy.ts";
import { type PrefixFigures, PrefixReuse } from "../prefix/prefix-reuse.ts";
import {
  type Admission,
  type Ended,
  FairQueue,
  type PrefillStep,
  Scheduler,
  type SchedulerFigures,
  type Step,
} from "../scheduler/index.ts";
import type { EngineJob } from "./engine-job.ts";
import { refusalError } from "./refusal.ts";
import { Steps } from "./steps.ts";
import { type SwapFigures, SwapSpace } from "./swap-space.ts";

/**
 * What a tenant may save up, of all that the slots hold. Requests that come at random come in bursts: with an eighth, tenants that
 * asked for 0.7 of their share were often out of savings, and waited two and a half times as long for a first token at p99 (simulated).
 */
const BURST_SHARE = 1 / 2;

export interface EngineOptions {
  /** Positions per prefill step: bounds how long running streams wait for a long prompt. */
  readonly chunkTokens: number;
  /** Most requests that may wait while no slot is free. */
  readonly queueCapacity: number;
  /** Memory for keys and values of prompts that were read before. @default 0, none is kept */
  readonly prefixBytes?: number;
  /** Memory for replies that gave their slots up. @default 0, none does */
  readonly swapBytes?: number;
  /** What a tenant may take; asked whenever it matters. @default {@link DEFAULT_SERVING} for everybody */
  readonly serving?: (tenant: string) => ServingPolicy;
  /** Told about a step that the runtime could not compute. */
  readonly onStepFailed: (error: unknown) => void;
}

/** Steps in a row that the runtime fails in before it counts as broken: one may be a request's doing. */
const FAILURES_OF_A_BROKEN_RUNTIME = 3;

/**
 * Runs the continuous batch on the model: plan, run, sample, feed back, for ever.
 *
 * The loop is the only writer of the runtime's buffers, and nothing but the loop runs between two steps; so what
 * a job does in its callbacks is safe to touch the steering table.
 */
export class Engine {
  readonly #scheduler: Scheduler<EngineJob>;
  readonly #steps: Steps;
  readonly #prefixes: PrefixReuse;
  readonly #swap: SwapSpace;
  readonly #options: EngineOptions;
  readonly #running: Promise<void>;
  /** Ends the chunk in flight. */
  #chunk: { readonly id: string; readonly abort: AbortController } | undefined;
  #wake: () => void = () => {};
  /** Something came or went since the last plan. */
  #hasNews = false;
  #stopped = false;
  /** Steps in a row that the runtime failed in. */
  #failures = 0;
  readonly #broken = Promise.withResolvers<unknown>();

  constructor(runtime: ModelRuntime, options: EngineOptions) {
    this.#options = options;
    const { chunkTokens, prefixBytes = 0, swapBytes = 0 } = options;
    this.#prefixes = new PrefixReuse(runtime, { chunkTokens, bytes: prefixBytes });
    this.#swap = new SwapSpace(runtime, swapBytes);
    this.#steps = new Steps(runtime, chunkTokens, this.#prefixes);
    this.#scheduler = new Scheduler<EngineJob>({
      slots: runtime.slots,
      contextTokens: runtime.contextTokens,
      chunkTokens,
      queue: new FairQueue({
        capacity: options.queueCapacity,
        share: options.serving ?? (() => DEFAULT_SERVING),
        burst: BURST_SHARE * runtime.slots * runtime.contextTokens,
        clock: () => performance.now(),
      }),
      admit: (job) => (this.#swap.has(job) ? readmit(job) : job.worn.admit()),
      swap: this.#swap,
    });
    this.#running = this.#loop();
  }

  /**
   * Whether a request of a tenant may come at all: asked before its prompt is read, so that a flood of refused ones costs little.
   *
   * @throws ServiceError QUEUE_FULL, DRAINING
   */
  requireRoom(tenant: string): void {
    const refused = this.#scheduler.refusal(tenant);
    if (refused !== undefined) throw refusalError(refused);
  }

  /**
   * Put a job into the queue. It hears of its end through `ended`.
   *
   * @throws ServiceError QUEUE_FULL, RATE_LIMITED, DRAINING
   */
  submit(job: EngineJob): void {
    const submission = this.#scheduler.submit(job);
    if (submission.kind === "refused") throw refusalError(submission);
    this.#tell();
  }

  /** End a job that nobody wants any more; its slot is free at the next step, and a chunk of its own is cut short. */
  cancel(id: string): void {
    this.#deliver(this.#scheduler.cancel(id));
    if (this.#chunk?.id === id) this.#chunk.abort.abort();
    this.#tell();
  }

  /** Resolves with the last error once the runtime computes nothing any more; everybody was sent away by then. */
  get broken(): Promise<unknown> {
    return this.#broken.promise;
  }

  /** The runtime computes. */
  get isFit(): boolean {
    return this.#failures < FAILURES_OF_A_BROKEN_RUNTIME;
  }

  figures(): SchedulerFigures {
    return this.#scheduler.figures();
  }

  prefixFigures(): PrefixFigures {
    return this.#prefixes.figures();
  }

  swapFigures(): SwapFigures {
    return this.#swap.figures();
  }

  /** End everything and wait for the step in flight. The runtime can be disposed afterwards. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#deliver(this.#scheduler.stop());
    this.#chunk?.abort.abort();
    this.#tell();
    await this.#running;
  }

  async #loop(): Promise<void> {
    while (!this.#stopped) {
      this.#hasNews = false;
      const { step, ended } = this.#scheduler.plan();
      this.#deliver(ended);
      if (step !== undefined) await this.#run(step);
      // What ended may have made room for somebody else.
      else if (ended.length === 0) await this.#news();
      // Arrivals, cancels and streams get their turn between steps even if every run ends at once.
      await setImmediate();
    }
  }

  async #run(step: Step<EngineJob>): Promise<void> {
    let ended: readonly Ended<EngineJob>[];
    try {
      ended =
        step.kind === "prefill"
          ? await this.#prefill(step)
          : this.#scheduler.completeDecode(step, await this.#steps.decode(step));
      this.#failures = 0;
    } catch (error) {
      const failure = new ServiceError("STEP_FAILED", "the runtime failed in a step of this request", { cause: error });
      ended = this.#scheduler.failStep(step, failure);
      // Its only job is gone, and had the chunk cut short.
      const wasCut = this.#chunk?.abort.signal.aborted === true;
      if (!wasCut) this.#stepFailed(error);
    } finally {
      this.#chunk = undefined;
    }
    this.#deliver(ended);
  }

  #stepFailed(error: unknown): void {
    this.#options.onStepFailed(error);
    // A defect in a job's own code says nothing of the runtime.
    if (!(error instanceof OnnxRuntimeError)) return;
    this.#failures++;
    if (this.isFit) return;
    this.#stopped = true;
    this.#deliver(this.#scheduler.stop());
    this.#broken.resolve(error);
  }

  async #prefill(step: PrefillStep<EngineJob>): Promise<Ended<EngineJob>[]> {
    const abort = new AbortController();
    this.#chunk = { id: step.job.id, abort };
    const outcome = await this.#steps.prefill(step, abort.signal);
    return outcome.kind === "filled"
      ? this.#scheduler.completeFilled(step, outcome.end)
      : this.#scheduler.completePrefill(step, outcome);
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

  #tell(): void {
    this.#hasNews = true;
    this.#wake();
  }

  #news(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = resolve;
      // It may have come since the plan was made.
      if (this.#hasNews) resolve();
    });
  }
}

/** A job that reads does not look again before its next step: a persona that was withdrawn meanwhile refuses it here. */
function readmit({ kind, worn }: EngineJob): Admission {
  const error = kind === "prefill" ? worn.withdrawal() : undefined;
  return error === undefined ? worn.readmit() : { kind: "refuse", error };
}
