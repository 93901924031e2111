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
 * by `remove`, or by `take` and, once it is over, `settle`; in between it may give its slot up by `preempt` and be taken again.
 */
export interface AdmissionQueue<J extends Job> {
  /** Jobs that wait to start. */
  readonly size: number;
  /** Jobs that gave their slots up and wait to go on. */
  readonly preempted: number;
  /** Most jobs that can wait while no slot is free. */
  readonly capacity: number;
  /** Why no job of a tenant may wait now, however small; undefined while one may. @param freeSlots - as for `offer` */
  full(tenant: string, freeSlots: number): Refusal | undefined;
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
  /**
   * While no slot is free: the job that gives one up, if one should. What comes in its place is the head from then on.
   *
   * @param running - in the order in which they were let in
   */
  claim(running: readonly J[]): J | undefined;
  /** A job that was taken gives its slot up, and comes before all of its tenant's that wait. @param tokens - as for `settle`, so far */
  preempt(job: J, tokens: number): void;
  /** Remove a job that waits to start, or to go on. */
  remove(id: string): J | undefined;
  /** Every job that waits, to start or to go on, in no particular order. */
  jobs(): Iterable<J>;
}
