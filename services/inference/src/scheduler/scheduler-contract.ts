import type { AdmissionQueue, Refusal } from "./admission-queue.ts";
import type { Ended, Job } from "./job.ts";
import type { Step } from "./step.ts";

/** May the head of the queue start in `slot` now? */
export type Admission =
  | { readonly kind: "admit" }
  /** Not yet. It keeps its place, and nobody overtakes it. */
  | { readonly kind: "wait" }
  /** Never: it ends as failed. */
  | { readonly kind: "refuse"; readonly error: unknown };

/** Where the keys and values of jobs that gave their slots up are kept. `out` and `in` are called within `plan`, between steps. */
export interface Swap<J extends Job> {
  /** Keep positions 0 to `positions` − 1 of a slot, whose job takes no part in steps from now on. @returns false without room */
  out(job: J, slot: number, positions: number): boolean;
  /** Put them back into a slot, maybe another one. {@link SchedulerOptions.admit} was asked before. */
  in(job: J, slot: number): void;
  /** It will not go on: called at any time. */
  drop(job: J): void;
}

export interface SchedulerOptions<J extends Job> {
  /** Rows of the KV cache: how many jobs run at once. */
  readonly slots: number;
  /** Positions per slot: prompt and reply together. */
  readonly contextTokens: number;
  /**
   * Positions per prefill step. Chunks end at multiples of it, whatever else runs, so that a prompt's keys and values are
   * computed the same way every time; but no position is computed alone: a chunk before it ends sooner, or its own later.
   */
  readonly chunkTokens: number;
  readonly queue: AdmissionQueue<J>;
  /**
   * Called within `plan`, between steps, when a slot is free, also for a job that gave one up before. A throw refuses the job.
   *
   * @default admits
   */
  readonly admit?: (job: J, slot: number) => Admission;
  /** @default none: nothing is taken from a job that runs */
  readonly swap?: Swap<J>;
}

export type Submission = { readonly kind: "queued" } | Refused;

export type Refused =
  | ({ readonly kind: "refused" } & Refusal)
  /** The worker stops. */
  | { readonly kind: "refused"; readonly reason: "DRAINING" };

export interface Plan<J extends Job> {
  /** What to run; undefined when nothing can run until a job arrives or leaves. Feed its result back before the next plan. */
  readonly step: Step<J> | undefined;
  /** Jobs that admission refused, and followers that are done or had to give way. */
  readonly ended: readonly Ended<J>[];
}

export interface SchedulerFigures {
  readonly slots: number;
  /** Slots with a job, of either kind below or on their way out. */
  readonly running: number;
  readonly prefilling: number;
  readonly decoding: number;
  readonly waiting: number;
  /** Jobs that gave their slots up and wait to go on. */
  readonly preempted: number;
  readonly queueCapacity: number;
  /** Positions of the KV cache in use. */
  readonly positions: number;
}
