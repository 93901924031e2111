import type { AdmissionQueue, Refusal } from "./admission-queue.ts";
import type { Ended, Job } from "./job.ts";
import type { Admission, SchedulerOptions, Swap } from "./scheduler-contract.ts";
import { knownTokens, type Slots, type Suspended } from "./slots.ts";

/**
 * Who gets into a slot, and out of it: waiting jobs in the queue's order, followers where nobody waits. Where the queue says so a
 * job that is at work gives its slot to the head: one in each plan, since running streams wait for the copy.
 */
export class Admissions<J extends Job> {
  readonly #queue: AdmissionQueue<J>;
  readonly #slots: Slots<J>;
  readonly #admit: SchedulerOptions<J>["admit"];
  readonly #swap: Swap<J> | undefined;
  /** Jobs that gave their slots up; they wait in the queue to go on. */
  readonly #suspended = new Map<string, Suspended<J>>();
  /** Followers that came since the last plan. */
  readonly #arrived = new Map<string, J>();
  /** The head for which a slot was given up in vain: it waits for something else, and for the next slot that gets free. */
  #heldUp: J | undefined;

  constructor(slots: Slots<J>, { queue, admit, swap }: Pick<SchedulerOptions<J>, "queue" | "admit" | "swap">) {
    this.#queue = queue;
    this.#slots = slots;
    this.#admit = admit;
    this.#swap = swap;
  }

  /** Why no job of a tenant may wait now. */
  full(tenant: string): Refusal | undefined {
    return this.#queue.full(tenant, this.#freeable());
  }

  /** A job comes, to wait, or as a follower to be looked at in the next plan. */
  offer(job: J): Refusal | undefined {
    if (job.follower === undefined) return this.#queue.offer(job, this.#freeable());
    this.#arrived.set(job.id, job);
    return undefined;
  }

  /** Whether a job waits, to start or to go on. */
  has(id: string): boolean {
    return this.#queue.has(id) || this.#arrived.has(id);
  }

  /** Nobody waits, to start or to go on. */
  get isEmpty(): boolean {
    return this.#queue.size + this.#queue.preempted + this.#arrived.size === 0;
  }

  /** Jobs that wait to start. */
  waiting(): J[] {
    return [...this.#queue.jobs(), ...this.#arrived.values()].filter(({ id }) => !this.#suspended.has(id));
  }

  /** Jobs that wait to go on. */
  suspended(): J[] {
    return [...this.#suspended.values()].map(({ state }) => state.job);
  }

  /** A job that waits, to start or to go on, does so no more. */
  remove(id: string): J | undefined {
    const job = this.#queue.remove(id) ?? this.#arrived.get(id);
    this.#arrived.delete(id);
    if (job !== undefined && this.#suspended.delete(id)) this.#swap?.drop(job);
    return job;
  }

  /** Fill the slots, between steps. @returns who was refused, is done or had to give way */
  admit(): Ended<J>[] {
    return [...this.#admitWaiting(), ...this.#admitFollowers(), ...this.#endFollowers()];
  }

  /** Free the slots of jobs that have left, between steps. */
  release(): Ended<J>[] {
    const ended: Ended<J>[] = [];
    this.#slots.states.forEach((state, slot) => {
      if (state.kind !== "leaving") return;
      if (state.job.follower === undefined) this.#queue.settle(state.job, this.#slots.computed(slot));
      this.#slots.release(slot, state.job);
      ended.push({ job: state.job, ending: state.ending, slot });
    });
    return ended;
  }

  /** Followers whose last token was prefilled before it was known to be the last. */
  #endFollowers(): Ended<J>[] {
    for (const slot of this.#slots.followers()) {
      const state = this.#slots.state(slot);
      if (state.kind !== "prefilling" || state.job.follower?.closed !== true) continue;
      if (state.next >= knownTokens(state.job))
        this.#slots.leave(slot, state.job, { kind: "finished", reason: "prefilled" });
    }
    return this.release();
  }

  #admitWaiting(): Ended<J>[] {
    const ended: Ended<J>[] = [];
    for (let preempted: J | undefined; ; ) {
      const slot = this.#slots.lowestFree();
      if (slot === undefined && this.#slots.followers().length === 0) {
        preempted = preempted === undefined ? this.#preempt() : undefined;
        if (preempted === undefined) return ended;
        continue;
      }
      const job = this.#queue.head();
      if (job === undefined) return ended;
      if (slot === undefined) {
        ended.push(...this.#displace());
        continue;
      }
      const admission = this.#ask(job, slot);
      if (admission.kind === "wait") {
        // What a follower holds may be what the head waits for; it is let go once the caller has heard of it.
        ended.push(...this.#displace());
        if (preempted !== undefined && preempted !== job && this.#ask(preempted, slot).kind === "admit") {
          // Its slot would be nobody's.
          this.#heldUp = job;
          this.#enter(slot, preempted);
        }
        return ended;
      }
      if (admission.kind === "admit") {
        this.#enter(slot, job);
      } else {
        this.remove(job.id);
        ended.push({ job, ending: { kind: "failed", error: admission.error } });
      }
    }
  }

  /** Slots for those who wait: a follower gives its own to the first of them. */
  #freeable(): number {
    return this.#slots.free() + this.#slots.followers().length;
  }

  #enter(slot: number, job: J): void {
    this.#queue.take(job);
    if (job === this.#heldUp) this.#heldUp = undefined;
    const suspended = this.#suspended.get(job.id);
    if (suspended === undefined) {
      this.#slots.occupy(slot, job);
      return;
    }
    this.#suspended.delete(job.id);
    this.#swap?.in(job, slot);
    this.#slots.resume(slot, suspended);
  }

  /** @returns who gave its slot up */
  #preempt(): J | undefined {
    if (this.#swap === undefined) return undefined;
    const running = this.#slots.atWork().flatMap((slot) => {
      const state = this.#slots.state(slot);
      return state.kind === "prefilling" || state.kind === "decoding" ? [{ slot, ...state }] : [];
    });
    const victim = this.#queue.claim(running.map(({ job }) => job));
    const found = running.find(({ job }) => job === victim);
    if (found === undefined || this.#queue.head() === this.#heldUp) return undefined;
    if (!this.#swap.out(found.job, found.slot, found.next)) return undefined;
    const suspended = this.#slots.suspend(found.slot);
    this.#suspended.set(found.job.id, suspended);
    this.#queue.preempt(found.job, suspended.computed);
    return found.job;
  }

  /** A slot that nobody waits for, now or never. */
  #admitFollowers(): Ended<J>[] {
    const ended: Ended<J>[] = [];
    for (const job of this.#arrived.values()) {
      const slot = this.#slots.lowestFree();
      const isWanted = slot === undefined || this.#queue.head() !== undefined;
      const admission: Admission = isWanted ? { kind: "wait" } : this.#ask(job, slot);
      if (!isWanted && admission.kind === "admit") this.#slots.occupy(slot, job);
      else if (admission.kind === "refuse") ended.push({ job, ending: { kind: "failed", error: admission.error } });
      else ended.push({ job, ending: { kind: "displaced" } });
    }
    this.#arrived.clear();
    return ended;
  }

  /** One follower gives way: the one in the highest slot, so that decode steps get no wider. */
  #displace(): Ended<J>[] {
    const done = this.#endFollowers();
    if (done.length > 0) return done;
    const slot = this.#slots.followers().at(-1);
    const state = slot === undefined ? undefined : this.#slots.state(slot);
    if (slot === undefined || state?.kind !== "prefilling") return [];
    this.#slots.leave(slot, state.job, { kind: "displaced" });
    return this.release();
  }

  #ask(job: J, slot: number): Admission {
    try {
      return this.#admit?.(job, slot) ?? { kind: "admit" };
    } catch (error) {
      return { kind: "refuse", error };
    }
  }
}
