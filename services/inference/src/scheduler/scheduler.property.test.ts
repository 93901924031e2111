import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { FairQueue, type TenantShare } from "./fair-queue.ts";
import type { Ended, Job } from "./job.ts";
import { Scheduler } from "./scheduler.ts";
import type { RowOutcome, Step } from "./step.ts";

interface Shape {
  readonly slots: number;
  readonly contextTokens: number;
  readonly chunkTokens: number;
  readonly waiting: number;
  /** Like table rows: how much the running jobs may weigh together. */
  readonly budget: number;
  /** Tokens that a tenant may have saved up: with them it takes slots from others. */
  readonly burst: number;
  /** Positions for jobs that gave their slots up. */
  readonly swap: number;
}

interface TestJob extends Job {
  readonly weight: number;
  /** Chunks that are there already when its first one is to be computed, as far as it has them. */
  readonly presentChunks: number;
  readonly follower?: { available: number; closed: boolean };
}

const TENANTS = ["acme", "globex", "initech"];

/** What may happen between two calls of the engine, or while a step is in flight. */
type Event =
  | {
      kind: "submit";
      job: "generate" | "prefill" | "follower";
      tenant: number;
      tokens: number;
      prompt: number;
      reply: number;
      weight: number;
      present: number;
    }
  | { kind: "cancel"; which: number }
  /** A follower hears of more tokens, or of the end. */
  | { kind: "grow"; which: number; by: number; closes: boolean }
  | { kind: "policy"; tenant: number; weight: number; maxRunning: number };

interface Turn {
  readonly before: readonly Event[];
  readonly during: readonly Event[];
  /** The whole step is lost. */
  readonly lost: boolean;
  /** Per slot, cyclically; where a rewind goes to is cut to the job. */
  readonly outcomes: readonly RowOutcome[];
}

const outcome: fc.Arbitrary<RowOutcome> = fc.oneof(
  { weight: 12, arbitrary: fc.constant<RowOutcome>({ kind: "continue" }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("rewind" as const), from: fc.nat() }) },
  { weight: 2, arbitrary: fc.constant<RowOutcome>({ kind: "finish", reason: "end" }) },
  { weight: 1, arbitrary: fc.constant<RowOutcome>({ kind: "fail", error: "row" }) },
);

const shapes: fc.Arbitrary<Shape> = fc.record({
  slots: fc.integer({ min: 1, max: 5 }),
  contextTokens: fc.integer({ min: 1, max: 24 }),
  chunkTokens: fc.integer({ min: 1, max: 8 }),
  waiting: fc.integer({ min: 1, max: 6 }),
  budget: fc.integer({ min: 3, max: 8 }),
  burst: fc.integer({ min: 0, max: 200 }),
  swap: fc.integer({ min: 0, max: 100 }),
});

const event: fc.Arbitrary<Event> = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({
      kind: fc.constant("submit" as const),
      job: fc.constantFrom("generate" as const, "generate" as const, "prefill" as const, "follower" as const),
      tenant: fc.nat(2),
      tokens: fc.nat(),
      prompt: fc.nat(),
      reply: fc.nat(9),
      weight: fc.nat(3),
      present: fc.nat(3),
    }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("cancel" as const), which: fc.nat() }) },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant("grow" as const),
      which: fc.nat(),
      by: fc.nat(6),
      closes: fc.boolean(),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant("policy" as const),
      tenant: fc.nat(2),
      weight: fc.integer({ min: 1, max: 5 }),
      maxRunning: fc.integer({ min: 1, max: 3 }),
    }),
  },
);

const turn: fc.Arbitrary<Turn> = fc.record({
  before: fc.array(event, { maxLength: 4 }),
  during: fc.array(event, { maxLength: 2 }),
  lost: fc.integer({ min: 0, max: 19 }).map((n) => n === 0),
  outcomes: fc.array(outcome, { minLength: 1, maxLength: 5 }),
});

/** An engine without a model: it keeps a KV cache of job ids and checks every read and write a step would do. */
class Rig {
  readonly batch: Scheduler<TestJob>;
  readonly shape: Shape;
  /** Per slot and position, whose key and value is there. */
  readonly cache: (string | undefined)[][];
  readonly submitted = new Map<string, TestJob>();
  readonly ended = new Map<string, Ended<TestJob>>();
  /** Jobs in the order in which they came and in which they were let in. */
  readonly arrivals: string[] = [];
  readonly admissions: string[] = [];
  readonly cancelled = new Set<string>();
  /** Positions of jobs that gave their slots up. */
  readonly swapped = new Map<string, number>();
  readonly endedSwapped = new Set<string>();
  /** Running jobs by slot, as told by admission and endings alone. */
  readonly running = new Map<number, TestJob>();
  /** Followers that lost their slot in the plan under way: what else they hold is given back after it. */
  readonly givenWay = new Set<TestJob>();
  /** How far a job that went back is prefilled again. */
  readonly goals = new Map<string, number>();
  /** Positions computed for each job, as the steps said. */
  readonly computed = new Map<string, number>();
  readonly shares = new Map<string, TenantShare>();
  /** In the last plan somebody was told to wait. */
  blocked = false;
  lastKind: Step<TestJob>["kind"] | undefined;

  constructor(shape: Shape) {
    this.shape = shape;
    this.cache = Array.from({ length: shape.slots }, () => new Array(shape.contextTokens));
    const queue = new FairQueue<TestJob>({
      capacity: shape.waiting,
      share: (tenant) => this.share(tenant),
      burst: shape.burst,
      clock: () => 0,
    });
    for (const name of ["settle", "preempt"] as const) {
      const call = queue[name].bind(queue);
      queue[name] = (job, tokens) => {
        expect(tokens).toBe(this.computed.get(job.id) ?? 0);
        call(job, tokens);
      };
    }
    this.batch = new Scheduler<TestJob>({
      slots: shape.slots,
      contextTokens: shape.contextTokens,
      chunkTokens: shape.chunkTokens,
      queue,
      admit: (job, slot) => {
        if (this.weight() + job.weight > shape.budget) {
          this.blocked = true;
          return { kind: "wait" };
        }
        const there = this.running.get(slot);
        if (there !== undefined) {
          expect(there.follower).toBeDefined();
          this.givenWay.add(there);
          this.cache[slot]?.fill(undefined);
        }
        for (let lower = 0; lower < slot; lower++) expect(this.running.has(lower)).toBe(true);
        this.running.set(slot, job);
        if (!this.swapped.has(job.id)) this.admissions.push(job.id);
        return { kind: "admit" };
      },
      swap: {
        out: (job, slot, positions) => {
          expect(this.running.get(slot)).toBe(job);
          expect(job.follower).toBeUndefined();
          expect(positions).toBe(this.filled(slot, job));
          const kept = [...this.swapped.values()].reduce((sum, each) => sum + each, 0);
          if (kept + positions > shape.swap) return false;
          this.swapped.set(job.id, positions);
          this.running.delete(slot);
          this.cache[slot]?.fill(undefined);
          return true;
        },
        in: (job, slot) => {
          expect(this.running.get(slot)).toBe(job);
          this.cache[slot]?.fill(undefined).fill(job.id, 0, this.swapped.get(job.id));
          expect(this.swapped.delete(job.id)).toBe(true);
        },
        drop: (job) => {
          expect(this.swapped.delete(job.id)).toBe(true);
          this.endedSwapped.add(job.id);
        },
      },
    });
  }

  share(tenant: string): TenantShare {
    const unlimited = { maxWaiting: Number.POSITIVE_INFINITY, tokensPerMinute: Number.POSITIVE_INFINITY };
    return this.shares.get(tenant) ?? { weight: 1, maxRunning: 9, ...unlimited };
  }

  weight(): number {
    return [...this.running.values(), ...this.givenWay].reduce((sum, job) => sum + job.weight, 0);
  }

  apply(event: Event): void {
    if (event.kind === "policy") {
      const tenant = TENANTS[event.tenant] as string;
      this.shares.set(tenant, { ...this.share(tenant), weight: event.weight, maxRunning: event.maxRunning });
    } else if (event.kind === "grow") {
      const followers = [...this.submitted.values()].filter(({ id, follower }) => follower && !this.ended.has(id));
      const { tokens = 0, follower } = followers[event.which % Math.max(1, followers.length)] ?? {};
      if (follower === undefined || follower.closed) return;
      follower.available = Math.min(tokens, follower.available + event.by);
      follower.closed = event.closes;
    } else if (event.kind === "cancel") {
      const id = this.arrivals[event.which % Math.max(1, this.arrivals.length)] ?? "nobody";
      this.cancelled.add(id);
      this.take(this.batch.cancel(id));
    } else {
      const tokens = 1 + (event.tokens % this.shape.contextTokens);
      const isFollower = event.job === "follower";
      const job: TestJob = {
        id: `job${this.submitted.size}`,
        tenant: TENANTS[event.tenant] as string,
        kind: event.job === "generate" ? "generate" : "prefill",
        tokens,
        replyTokens: event.job === "generate" ? event.reply : 0,
        ...(event.prompt % 2 === 0 ? {} : { promptTokens: event.prompt % (tokens + 1) }),
        weight: event.weight,
        presentChunks: isFollower ? 0 : event.present,
        ...(isFollower ? { follower: { available: event.prompt % (tokens + 1), closed: false } } : {}),
      };
      const { waiting } = this.batch.figures();
      const isFull = waiting >= this.shape.waiting + this.shape.slots;
      const submission = this.batch.submit(job);
      if (isFollower || waiting === 0) expect(submission.kind).toBe("queued");
      else if (isFull) expect(submission.kind).toBe("refused");
      if (submission.kind === "refused") return;
      this.submitted.set(job.id, job);
      this.arrivals.push(job.id);
    }
  }

  /** One turn of the engine's loop. @returns whether anything happened */
  turn({ before, during, lost, outcomes }: Turn): boolean {
    for (const each of before) this.apply(each);
    const { step, ended } = this.plan();
    if (step === undefined) {
      for (const job of this.running.values()) expect(job.follower?.closed).toBe(false);
      return ended.length > 0;
    }
    this.checkTurnTaking(step);
    this.lastKind = step.kind;
    const runningBefore = new Map(this.running);
    for (const each of during) this.apply(each);
    // Nobody enters or leaves a slot while a step reads and writes it.
    expect(this.running).toEqual(runningBefore);
    const present = lost ? 0 : this.present(step);
    if (!lost && present === 0) this.write(step);
    const get = (slot: number) => outcomes[slot % outcomes.length] as RowOutcome;
    if (lost) this.take(this.batch.failStep(step, "step"));
    else if (step.kind === "prefill" && present > 0) {
      this.cache[step.slot]?.fill(step.job.id, 0, present);
      this.take(this.batch.completeFilled(step, present));
    } else if (step.kind === "prefill") {
      const samples = step.isLast && step.job.kind === "generate";
      const given = this.outcomeFor(step.job, step.end, get(step.slot), samples);
      this.take(this.batch.completePrefill(step, given));
    } else {
      const given = step.rows.map((row, slot) =>
        row.kind === "decode" ? this.outcomeFor(row.job, row.position + 1, get(slot), true) : get(slot),
      );
      this.take(this.batch.completeDecode(step, given));
    }
    return true;
  }

  /** Positions that are there when a job's first chunk is to be computed. */
  present(step: Step<TestJob>): number {
    if (step.kind !== "prefill" || step.start > 0 || step.isLast || step.repeats) return 0;
    const { chunkTokens } = this.shape;
    const chunks = Math.min(step.job.presentChunks, Math.floor((step.job.tokens - 1) / chunkTokens));
    return chunks * chunkTokens < step.end ? 0 : chunks * chunkTokens;
  }

  plan(): { step: Step<TestJob> | undefined; ended: readonly Ended<TestJob>[] } {
    this.blocked = false;
    const arrived = this.waitingFollowers();
    const { step, ended } = this.batch.plan();
    this.take(ended);
    for (const id of arrived) expect(this.admissions.includes(id) || this.ended.has(id)).toBe(true);
    this.checkWorkConserving();
    return { step, ended };
  }

  waitingFollowers(): string[] {
    return this.arrivals.filter(
      (id) => this.submitted.get(id)?.follower && !this.ended.has(id) && !this.admissions.includes(id),
    );
  }

  /** Whoever could be let in has been, before any slot is empty or a follower's. */
  checkWorkConserving(): void {
    const jobs = [...this.running.values()];
    const isRoom = jobs.length < this.shape.slots || jobs.some(({ follower }) => follower !== undefined);
    if (!isRoom || this.blocked) return;
    for (const id of this.arrivals) {
      const job = this.submitted.get(id) as TestJob;
      if (this.ended.has(id) || (this.admissions.includes(id) && !this.swapped.has(id))) continue;
      const own = jobs.filter(({ tenant, follower }) => tenant === job.tenant && follower === undefined);
      expect(own.length).toBeGreaterThanOrEqual(this.share(job.tenant).maxRunning);
    }
  }

  outcomeFor(job: TestJob, goal: number, given: RowOutcome, samples: boolean): RowOutcome {
    if (given.kind !== "rewind") return given;
    if (!samples) return { kind: "continue" };
    const from = given.from % (goal + 1);
    const slot = [...this.running].find(([, running]) => running === job)?.[0] as number;
    if (goal < this.shape.contextTokens && !this.cancelled.has(job.id)) {
      this.cache[slot]?.fill(undefined, from);
      if (from < goal) this.goals.set(job.id, goal);
    }
    return { kind: "rewind", from };
  }

  take(ended: readonly Ended<TestJob>[]): void {
    for (const each of ended) {
      expect(this.ended.has(each.job.id)).toBe(false);
      expect(this.submitted.get(each.job.id)).toBe(each.job);
      this.ended.set(each.job.id, each);
      if (each.ending.kind === "displaced") expect(each.job.follower).toBeDefined();
      if (each.slot === undefined) continue;
      this.givenWay.delete(each.job);
      if (this.running.get(each.slot) === each.job) this.running.delete(each.slot);
      // What is in a free slot is nobody's: idle rows may overwrite it.
      const row = this.cache[each.slot] ?? [];
      row.forEach((id, position) => {
        if (id === each.job.id) row[position] = undefined;
      });
    }
  }

  /** Positions of `job` in `slot` are exactly 0 … n − 1, in the order in which they were written. */
  filled(slot: number, job: TestJob): number {
    const row = this.cache[slot] ?? [];
    const count = row.filter((id) => id === job.id).length;
    for (let position = 0; position < count; position++) expect(row[position]).toBe(job.id);
    return count;
  }

  write(step: Step<TestJob>): void {
    if (step.kind === "prefill") {
      const { job, slot, start, end } = step;
      expect(this.running.get(slot)).toBe(job);
      expect(start).toBe(this.filled(slot, job));
      const { tokens, promptTokens = tokens, follower } = job;
      const goal = this.goals.get(job.id);
      const known = goal ?? Math.min(tokens, follower?.available ?? tokens);
      const { chunkTokens } = this.shape;
      const limit = start < promptTokens ? Math.min(promptTokens, known) : known;
      expect(end).toBeGreaterThan(start);
      expect(end).toBeLessThanOrEqual(limit);
      expect(end - start).toBeLessThanOrEqual(Math.max(3, chunkTokens));
      // What a follower knows by now may be more than when the chunk was planned.
      if (follower === undefined) {
        // At a multiple, but for one position that would be alone before or behind.
        const isNear = (position: number) => position === limit || position % chunkTokens === 0;
        expect([end - 2, end - 1, end, end + 1].some(isNear)).toBe(true);
        if (end - start === 1) expect(limit - start).toBe(1);
        expect(limit - end).not.toBe(1);
      }
      expect(step.phase).toBe(start < promptTokens ? "prompt" : "generated");
      expect(step.repeats).toBe(goal !== undefined);
      if (follower === undefined) expect(step.isLast).toBe(goal === undefined && end === tokens);
      else if (step.isLast) expect(end === tokens || follower.closed).toBe(true);
      this.cache[slot]?.fill(job.id, start, end);
      this.computed.set(job.id, (this.computed.get(job.id) ?? 0) + end - start);
      if (end === goal) this.goals.delete(job.id);
      return;
    }
    expect(step.rows.at(-1)?.kind).toBe("decode");
    step.rows.forEach((row, slot) => {
      expect(row.position).toBeGreaterThanOrEqual(0);
      expect(row.position).toBeLessThan(this.shape.contextTokens);
      const job = this.running.get(slot);
      if (row.kind === "decode") {
        expect(row.job).toBe(job);
        expect(row.job.kind).toBe("generate");
        expect(this.goals.has(row.job.id)).toBe(false);
        expect(row.position).toBeGreaterThanOrEqual(row.job.tokens);
        expect(row.position).toBe(this.filled(slot, row.job));
        (this.cache[slot] as (string | undefined)[])[row.position] = row.job.id;
        this.computed.set(row.job.id, (this.computed.get(row.job.id) ?? 0) + 1);
      } else if (job === undefined) {
        expect(row.position).toBe(0);
      } else {
        // A decoding slot is never idle, and a prefilling one loses nothing.
        expect(row.position).toBe(this.filled(slot, job));
        expect(row.position).toBeLessThan(this.goals.get(job.id) ?? job.tokens);
      }
    });
    for (const [slot, job] of this.running) {
      const decoding = job.kind === "generate" && !this.goals.has(job.id) && this.filled(slot, job) >= job.tokens;
      if (decoding) expect(step.rows[slot]?.kind).toBe("decode");
    }
  }

  /** With both kinds of work there, neither is done twice in a row; followers prefill when nobody else does. */
  checkTurnTaking(step: Step<TestJob>): void {
    const states = this.batch.slots;
    const prefilling = states.filter((state) => state.kind === "prefilling" && state.job.follower === undefined);
    const isDecoding = states.some((state) => state.kind === "decoding");
    if (prefilling.length > 0 && isDecoding) expect(step.kind).not.toBe(this.lastKind);
    if (step.kind !== "prefill" || step.job.follower === undefined) return;
    expect(prefilling).toEqual([]);
    if (isDecoding) expect(this.lastKind).toBe("decode");
  }
}

const GO_ON: Turn = { before: [], during: [], lost: false, outcomes: [{ kind: "continue" }] };

describe("Scheduler under random arrivals, cancels, rewinds, followers, policies and failures", () => {
  it("writes every position in order, lets jobs of a tenant in first-come, ends each job once and leaks no slot", () => {
    fc.assert(
      fc.property(shapes, fc.array(turn, { maxLength: 60 }), (shape, turns) => {
        const rig = new Rig(shape);
        for (const each of turns) rig.turn(each);

        // Every job left needs at most its positions in steps, once more if it went back, alternating with others' chunks.
        for (const { follower } of rig.submitted.values()) if (follower !== undefined) follower.closed = true;
        const bound = 2 * (rig.submitted.size - rig.ended.size) * (2 * shape.contextTokens + 2);
        let steps = 0;
        while (rig.turn(GO_ON)) expect(++steps).toBeLessThanOrEqual(bound);

        expect(rig.batch.empty).toBe(true);
        expect(rig.batch.figures()).toMatchObject({ running: 0, waiting: 0, preempted: 0, positions: 0 });
        expect(rig.swapped.size).toBe(0);
        expect([...rig.ended.keys()].sort()).toEqual([...rig.submitted.keys()].sort());
        const admitted = new Set(rig.admissions);
        const ofTenant = (tenant: string) => (id: string) => {
          const job = rig.submitted.get(id);
          return job?.tenant === tenant && job.follower === undefined;
        };
        for (const tenant of TENANTS) {
          const arrivals = rig.arrivals.filter((id) => admitted.has(id)).filter(ofTenant(tenant));
          expect(rig.admissions.filter(ofTenant(tenant))).toEqual(arrivals);
        }
        for (const [id, { ending, slot, job }] of rig.ended) {
          if (!admitted.has(id)) expect(["cancelled", job.follower && "displaced"]).toContain(ending.kind);
          expect(slot !== undefined).toBe(admitted.has(id) && !rig.endedSwapped.has(id));
          if (ending.kind === "cancelled") expect(rig.cancelled.has(id)).toBe(true);
        }
      }),
      { numRuns: 500 },
    );
  });

  it("leaves at most one step between a cancel and the free slot", () => {
    fc.assert(
      fc.property(shapes, fc.array(turn, { minLength: 1, maxLength: 30 }), fc.nat(), (shape, turns, pick) => {
        const rig = new Rig(shape);
        for (const each of turns) rig.turn(each);
        const { step } = rig.plan();
        if (step === undefined) return;
        const victims = [...rig.running.values()];
        const victim = victims[pick % victims.length] as TestJob;
        rig.apply({ kind: "cancel", which: rig.arrivals.indexOf(victim.id) });
        expect(rig.ended.has(victim.id)).toBe(false);
        rig.take(rig.batch.failStep(step, "step"));
        expect(rig.ended.get(victim.id)?.ending).toEqual({ kind: "cancelled" });
      }),
      { numRuns: 200 },
    );
  });

  it("stops: everybody leaves, whether they wait, run or gave their slots up", () => {
    fc.assert(
      fc.property(shapes, fc.array(turn, { maxLength: 30 }), (shape, turns) => {
        const rig = new Rig(shape);
        for (const each of turns) rig.turn(each);
        rig.take(rig.batch.stop());
        expect([...rig.ended.keys()].sort()).toEqual([...rig.submitted.keys()].sort());
        expect(rig.batch.empty).toBe(true);
        expect(rig.swapped.size).toBe(0);
      }),
      { numRuns: 100 },
    );
  });

  it("drains: what waits leaves at once, what runs ends by itself, nobody new comes in", () => {
    fc.assert(
      fc.property(shapes, fc.array(turn, { maxLength: 30 }), (shape, turns) => {
        const rig = new Rig(shape);
        for (const each of turns) rig.turn(each);
        const running = new Set([...[...rig.running.values()].map((job) => job.id), ...rig.swapped.keys()]);
        rig.take(rig.batch.drain());
        const late: TestJob = { id: "late", tenant: "acme", kind: "prefill", tokens: 1, weight: 0, presentChunks: 0 };
        expect(rig.batch.submit(late).kind).toBe("refused");
        for (const { follower } of rig.submitted.values()) if (follower !== undefined) follower.closed = true;
        while (rig.turn(GO_ON)) expect(rig.batch.figures().waiting).toBe(0);
        for (const id of rig.submitted.keys()) {
          const ending = rig.ended.get(id)?.ending.kind;
          if (running.has(id)) expect(ending).toBe("finished");
          else expect(ending).toBeDefined();
        }
        expect(rig.batch.empty).toBe(true);
      }),
      { numRuns: 100 },
    );
  });
});
