import type { AdmissionQueue, Refusal } from "./admission-queue.ts";
import type { Ended, Job } from "./job.ts";
import type { Admission, SchedulerOptions } from "./scheduler-contract.ts";
import { knownTokens, type Slots } from "./slots.ts";

/** Who gets into a slot, and out of it: waiting jobs in the queue's order, followers where nobody waits. */
export class Admissions<J extends Job> {
  readonly #queue: AdmissionQueue<J>;
  readonly #slots: Slots<J>;
  readonly #admit: SchedulerOptions<J>["admit"];
  /** Followers that came since the last plan. */
  readonly #arrived = new Map<string, J>();

  constructor(queue: AdmissionQueue<J>, slots: Slots<J>, admit: SchedulerOptions<J>["admit"]) {
    this.#queue = queue;
    this.#slots = slots;
    this.#admit = admit;
  }

  /** A job comes, to wait, or as a follower to be looked at in the next plan. */
  offer(job: J): Refusal | undefined {
    if (job.follower === undefined) {
      // A follower gives its slot to the first who waits.
      return this.#queue.offer(job, this.#slots.free() + this.#slots.followers().length);
    }
    this.#arrived.set(job.id, job);
    return undefined;
  }

  /** Whether a job waits. */
  has(id: string): boolean {
    return this.#queue.has(id) || this.#arrived.has(id);
  }

  waiting(): J[] {
    return [...this.#queue.jobs(), ...this.#arrived.values()];
  }

  /** A job that waits goes. */
  remove(id: string): J | undefined {
    const job = this.#queue.remove(id) ?? this.#arrived.get(id);
    this.#arrived.delete(id);
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
    for (;;) {
      const slot = this.#slots.lowestFree();
      if (slot === undefined && this.#slots.followers().length === 0) return ended;
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
        return ended;
      }
      if (admission.kind === "admit") {
        this.#queue.take(job);
        this.#slots.occupy(slot, job);
      } else {
        this.#queue.remove(job.id);
        ended.push({ job, ending: { kind: "failed", error: admission.error } });
      }
    }
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
