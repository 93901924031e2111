import type { Job } from "./job.ts";

/** Why a job may not wait. */
export type Refusal =
  /** As many wait as may: of the tenant, or of all. */
  | { readonly reason: "QUEUE_FULL"; readonly whose: "tenant" | "everybody" }
  /** The tenant has used up its tokens; the same job is let in after this time if no other comes before it. */
  | { readonly reason: "RATE_LIMITED"; readonly retryAfterMillis: number };

/**
 * The waiting jobs and the order in which they are let in.
 *
 * The one place that knows the order: what is fair between tenants is decided behind it. A job comes in by `offer` and goes
 * by `remove`, or by `take` and, once it is over, `settle`.
 */
export interface AdmissionQueue<J extends Job> {
  readonly size: number;
  /** Most jobs that can wait while no slot is free. */
  readonly capacity: number;
  /**
   * Take a job in, or say why not.
   *
   * @param freeSlots - jobs that will start at the next plan do not count as waiting
   */
  offer(job: J, freeSlots: number): Refusal | undefined;
  has(id: string): boolean;
  /** The job to let in next: the same one until it is taken or removed, or its tenant may run no more. */
  head(): J | undefined;
  /** The head has a slot. */
  take(job: J): void;
  /** A job that was taken is over. @param tokens - positions that were computed for it */
  settle(job: J, tokens: number): void;
  /** Remove a waiting job wherever it stands. */
  remove(id: string): J | undefined;
  /** Every waiting job, in no particular order. */
  jobs(): Iterable<J>;
}
