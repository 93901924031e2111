import type { AdmissionQueue, Refusal } from "./admission-queue.ts";
import type { Job } from "./job.ts";
import { TokenBuckets } from "./token-buckets.ts";

/** What a tenant may take. */
export interface TenantShare {
  /** Tokens relative to other tenants that wait, above 0. */
  readonly weight: number;
  /** Jobs that run at once, at least 1; infinite for as many as there are slots. */
  readonly maxRunning: number;
  /** Jobs that wait, at least 1; infinite for no limit of its own. */
  readonly maxWaiting: number;
  /** Above 0; infinite for no limit. */
  readonly tokensPerMinute: number;
}

export interface FairQueueOptions {
  /** Most jobs that can wait while no slot is free, at least 1. */
  readonly capacity: number;
  /** Asked whenever it matters, since shares change while jobs wait and run. */
  readonly share: (tenant: string) => TenantShare;
  /** Tokens that a tenant which takes less than its share may have saved up, for when several of its requests come at once. @default 0 */
  readonly burst?: number;
  /** Milliseconds that never run backwards, for tokens per minute. */
  readonly clock: () => number;
}

/** One tenant's waiting jobs and its account. */
interface Lane<J extends Job> {
  readonly tenant: string;
  /** Insertion order is arrival order, and a job leaves from the middle as cheaply as from the front. */
  readonly waiting: Map<string, J>;
  /** Jobs that gave their slots up; the last one came first, and is the first to go on. */
  readonly preempted: Candidate<J>[];
  running: number;
  /** Tokens: what it was credited less what it was charged. Below 0 it has had more than its share of late. */
  balance: number;
  /** Of equals, the one whose turn is longest ago comes first. */
  lastTurn: number;
}

/** A job that could be let in. */
interface Candidate<J extends Job> {
  readonly job: J;
  /** Tokens that its tenant is charged for that: all that it may take, or none where it was let in before. */
  readonly price: number;
  /** Tokens that it has taken. */
  readonly taken: number;
}

/**
 * Weighted deficit round robin in tokens between tenants, first come first served within one.
 *
 * Every tenant has an account. A job is charged when it is let in, with all that it may take, and settled with what it took
 * when it is over. Next is the tenant whose balance per weight is highest; when all who could be next are below 0, they are
 * credited in proportion to their weights until one of them is not (rounds of a quantum as small as can be, and as many of
 * them at once as it takes). Who has nothing waiting is credited as well, up to `burst`; more lapses: a tenant that comes back has
 * its turn soon and no hoard. So requests that come in bursts, as people's do, do not wait for a tenant that always wants
 * more than its share. A tenant alone takes every slot; once others wait, it waits for its turn at every slot that gets free.
 *
 * Where no slot is free, who can pay with what it has saved does not wait for one: a tenant that has nothing saved gives one
 * up, of several the one with the lowest balance per weight. That job stays paid for and comes before all others of its tenant.
 * Tenants that all want more than their share have nothing saved, and those that want less have some: neither take slots from
 * each other.
 *
 * The bound: over any time in which two tenants always have jobs that could be let in, and keep their weights w and v, what
 * they are charged net of settlements, each divided by its weight, differs by at most (slots + 1) · M · (1/w + 1/v), where M is
 * the most that a job is charged; by M · (1/w + 1/v) where every job takes what it is charged. For both are credited alike, and
 * a balance stays above −M and below what settlements can still bring. Jobs that compute positions again and take more than
 * they were charged, up to M more, widen it by slots · M · (1/w + 1/v); what was saved before that time, by burst · max(1/w, 1/v).
 *
 * Of the waiting room, a tenant may have as much as is left free beside it: half of it alone, a third each of two who
 * flood; so there is always room for somebody who has nothing waiting.
 */
export class FairQueue<J extends Job> implements AdmissionQueue<J> {
  readonly capacity: number;
  readonly #share: (tenant: string) => TenantShare;
  readonly #burst: number;
  readonly #buckets: TokenBuckets;
  readonly #lanes = new Map<string, Lane<J>>();
  readonly #laneOf = new Map<string, Lane<J>>();
  #preempted = 0;
  #chosen: J | undefined;
  #turn = 0;

  constructor({ capacity, share, burst = 0, clock }: FairQueueOptions) {
    if (!Number.isSafeInteger(capacity) || capacity < 1) {
      throw new RangeError(`queue capacity must be a positive integer, not ${capacity}`);
    }
    this.capacity = capacity;
    this.#share = share;
    this.#burst = burst;
    this.#buckets = new TokenBuckets(clock);
  }

  get size(): number {
    return this.#laneOf.size - this.#preempted;
  }

  get preempted(): number {
    return this.#preempted;
  }

  full(tenant: string, freeSlots: number): Refusal | undefined {
    const share = this.#share(tenant);
    const left = this.capacity - Math.max(0, this.size - freeSlots);
    if (left <= 0) return { reason: "QUEUE_FULL", whose: "everybody" };
    const known = this.#lanes.get(tenant);
    // Free slots that the tenant may not take, or that those take which gave theirs up, let none of its new jobs in.
    const allowed = Math.min(freeSlots, share.maxRunning - (known?.running ?? 0)) - (known?.preempted.length ?? 0);
    const own = Math.max(0, (known?.waiting.size ?? 0) - Math.max(0, allowed));
    return own < Math.min(left, share.maxWaiting) ? undefined : { reason: "QUEUE_FULL", whose: "tenant" };
  }

  offer(job: J, freeSlots: number): Refusal | undefined {
    const full = this.full(job.tenant, freeSlots);
    if (full !== undefined) return full;
    const retryAfterMillis = this.#buckets.pay(job.tenant, costOf(job), this.#share(job.tenant).tokensPerMinute);
    if (retryAfterMillis > 0) return { reason: "RATE_LIMITED", retryAfterMillis };
    const lane = this.#lane(job.tenant);
    lane.waiting.set(job.id, job);
    this.#laneOf.set(job.id, lane);
    return undefined;
  }

  has(id: string): boolean {
    return this.#laneOf.has(id);
  }

  head(): J | undefined {
    if (this.#chosen === undefined || !this.#mayRun(this.#laneOf.get(this.#chosen.id))) this.#chosen = this.#choose();
    return this.#chosen;
  }

  take(job: J): void {
    const left = this.#leave(job.id);
    if (left === undefined) throw new Error(`job ${job.id} does not wait`);
    const { lane, price } = left;
    lane.running++;
    lane.balance -= price;
    lane.lastTurn = ++this.#turn;
    this.#lapse(lane);
  }

  claim(running: readonly J[]): J | undefined {
    const head = this.#chosen ?? this.#first(this.#richest())?.job;
    const lane = head && this.#laneOf.get(head.id);
    const first = this.#first(lane);
    if (head === undefined || lane === undefined || first?.job !== head || !this.#mayRun(lane)) return undefined;
    // One that is paid for must be worth as much to its tenant as one that is not. Where positions were computed again, it may
    // have taken more than it was charged: that is no saving.
    if (lane.balance <= 0 || lane.balance < costOf(head) - first.taken) return undefined;
    let victim: J | undefined;
    let least = 0;
    for (const job of running) {
      const other = this.#lanes.get(job.tenant);
      if (other === undefined || other === lane) continue;
      const perWeight = this.#perWeight(other);
      // Of those that are as low, a tenant's own among them, the last one that was let in.
      if (perWeight <= least) {
        victim = job;
        least = perWeight;
      }
    }
    if (victim !== undefined) this.#chosen = head;
    return victim;
  }

  preempt(job: J, tokens: number): void {
    const lane = this.#stop(job);
    lane.preempted.push({ job, price: 0, taken: tokens });
    this.#laneOf.set(job.id, lane);
    this.#preempted++;
    if (this.#chosen?.tenant === job.tenant) this.#chosen = undefined;
  }

  settle(job: J, tokens: number): void {
    const lane = this.#stop(job);
    const rest = costOf(job) - tokens;
    lane.balance += rest;
    this.#lapse(lane);
    // What a job computes again is its tenant's share of the worker, but no token of prompt or reply.
    this.#buckets.giveBack(job.tenant, Math.max(0, rest), this.#share(job.tenant).tokensPerMinute);
  }

  remove(id: string): J | undefined {
    const left = this.#leave(id);
    if (left === undefined) return undefined;
    const { lane, job, price, taken } = left;
    lane.balance += costOf(job) - taken - price;
    this.#lapse(lane);
    this.#buckets.giveBack(job.tenant, Math.max(0, costOf(job) - taken), this.#share(job.tenant).tokensPerMinute);
    return job;
  }

  *jobs(): Iterable<J> {
    for (const { waiting, preempted } of this.#lanes.values()) {
      yield* waiting.values();
      for (const { job } of preempted) yield job;
    }
  }

  #choose(): J | undefined {
    const next = this.#richest();
    if (next === undefined) return undefined;
    const first = this.#first(next);
    if (next.balance < 0 && first !== undefined && first.price > 0) {
      this.#credit(-this.#perWeight(next));
      // Rounding must not leave the one whose turn it is a hair short of it.
      next.balance = 0;
    }
    return first?.job;
  }

  /** Of those with a job that may be let in, whose balance per weight is highest. */
  #richest(): Lane<J> | undefined {
    let richest: Lane<J> | undefined;
    for (const lane of this.#lanes.values()) {
      if (!this.#mayRun(lane)) continue;
      const more = richest === undefined ? 1 : this.#perWeight(lane) - this.#perWeight(richest);
      if (richest === undefined || more > 0 || (more === 0 && lane.lastTurn < richest.lastTurn)) richest = lane;
    }
    return richest;
  }

  #perWeight({ tenant, balance }: Lane<J>): number {
    return balance / this.#share(tenant).weight;
  }

  /** What of a tenant is let in next. */
  #first(lane: Lane<J> | undefined): Candidate<J> | undefined {
    const preempted = lane?.preempted.at(-1);
    if (preempted !== undefined) return preempted;
    const job = lane?.waiting.values().next().value;
    return job && { job, price: costOf(job), taken: 0 };
  }

  /** Who has nothing to let in pays its debt off as the others do, and saves up to the burst. */
  #credit(perWeight: number): void {
    for (const lane of this.#lanes.values()) {
      if (lane.balance < this.#burst) {
        lane.balance = Math.min(this.#burst, lane.balance + perWeight * this.#share(lane.tenant).weight);
        this.#lapse(lane);
      }
    }
  }

  #mayRun(lane: Lane<J> | undefined): boolean {
    return lane !== undefined && !isIdle(lane) && lane.running < this.#share(lane.tenant).maxRunning;
  }

  #lane(tenant: string): Lane<J> {
    let lane = this.#lanes.get(tenant);
    if (lane === undefined) {
      // One that nothing is remembered of has taken nothing for long.
      lane = { tenant, waiting: new Map(), preempted: [], running: 0, balance: this.#burst, lastTurn: 0 };
      this.#lanes.set(tenant, lane);
    }
    return lane;
  }

  #stop({ id, tenant }: J): Lane<J> {
    const lane = this.#lanes.get(tenant);
    if (lane === undefined || lane.running === 0) throw new Error(`job ${id} does not run`);
    lane.running--;
    return lane;
  }

  /** A job that waits, or gave its slot up, does so no more. */
  #leave(id: string): (Candidate<J> & { readonly lane: Lane<J> }) | undefined {
    const lane = this.#laneOf.get(id);
    if (lane === undefined) return undefined;
    if (this.#chosen?.id === id) this.#chosen = undefined;
    this.#laneOf.delete(id);
    const job = lane.waiting.get(id);
    if (job !== undefined) {
      lane.waiting.delete(id);
      return { lane, job, price: costOf(job), taken: 0 };
    }
    this.#preempted--;
    const [preempted] = lane.preempted.splice(
      lane.preempted.findIndex((each) => each.job.id === id),
      1,
    );
    return { lane, ...(preempted as Candidate<J>) };
  }

  #lapse(lane: Lane<J>): void {
    if (!isIdle(lane)) return;
    lane.balance = Math.min(this.#burst, lane.balance);
    if (lane.running > 0) return;
    if (lane.balance >= this.#burst) this.#lanes.delete(lane.tenant);
    // Nobody has had less than another of what nobody wanted.
    else if (this.#laneOf.size === 0 && ![...this.#lanes.values()].some(({ running }) => running > 0))
      this.#lanes.clear();
  }
}

/** Nothing of it waits to be let in. */
function isIdle({ waiting, preempted }: Lane<Job>): boolean {
  return waiting.size === 0 && preempted.length === 0;
}

/** Tokens that a job may take, at most. */
function costOf({ tokens, replyTokens = 0 }: Job): number {
  return tokens + replyTokens;
}
