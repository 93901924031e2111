import type { Job } from "./job.ts";

/**
 * The waiting jobs and the order in which they are let in.
 *
 * The one place that knows the order: what is fair between tenants is decided behind it.
 */
export interface AdmissionQueue<J extends Job> {
  readonly size: number;
  /** Most jobs that can wait. */
  readonly capacity: number;
  /** Take a job in, or say false because the queue is full. */
  offer(job: J): boolean;
  has(id: string): boolean;
  /** The job to let in next: the same one until it is removed. */
  head(): J | undefined;
  /** Remove a job wherever it stands. */
  remove(id: string): J | undefined;
  /** Every waiting job, in no particular order. */
  jobs(): Iterable<J>;
}

/** First come, first served. */
export class FifoQueue<J extends Job> implements AdmissionQueue<J> {
  readonly capacity: number;
  /** Insertion order is arrival order, and a job leaves from the middle as cheaply as from the front. */
  readonly #jobs = new Map<string, J>();

  /** @param capacity - most jobs that can wait, at least 1: a job always passes through the queue */
  constructor(capacity: number) {
    if (!Number.isSafeInteger(capacity) || capacity < 1) {
      throw new RangeError(`queue capacity must be a positive integer, not ${capacity}`);
    }
    this.capacity = capacity;
  }

  get size(): number {
    return this.#jobs.size;
  }

  offer(job: J): boolean {
    if (this.#jobs.size >= this.capacity) return false;
    this.#jobs.set(job.id, job);
    return true;
  }

  has(id: string): boolean {
    return this.#jobs.has(id);
  }

  head(): J | undefined {
    return this.#jobs.values().next().value;
  }

  remove(id: string): J | undefined {
    const job = this.#jobs.get(id);
    this.#jobs.delete(id);
    return job;
  }

  jobs(): Iterable<J> {
    return this.#jobs.values();
  }
}
