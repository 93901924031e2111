import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { FifoQueue } from "./admission-queue.ts";
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
}

interface TestJob extends Job {
  readonly weight: number;
}

/** What may happen between two calls of the engine, or while a step is in flight. */
type Event =
  | {
      kind: "submit";
      job: "generate" | "prefill";
      tokens: number;
      prompt: number;
      weight: number;
      patience: number | undefined;
    }
  | { kind: "cancel"; which: number }
  | { kind: "time"; passes: number };

interface Turn {
  readonly before: readonly Event[];
  readonly during: readonly Event[];
  /** The whole step is lost. */
  readonly lost: boolean;
  /** Per slot, cyclically. */
  readonly outcomes: readonly RowOutcome[];
}

const outcome: fc.Arbitrary<RowOutcome> = fc.oneof(
  { weight: 12, arbitrary: fc.constant<RowOutcome>({ kind: "continue" }) },
  { weight: 2, arbitrary: fc.constant<RowOutcome>({ kind: "finish", reason: "end" }) },
  { weight: 1, arbitrary: fc.constant<RowOutcome>({ kind: "fail", error: "row" }) },
);

const shapes: fc.Arbitrary<Shape> = fc.record({
  slots: fc.integer({ min: 1, max: 5 }),
  contextTokens: fc.integer({ min: 1, max: 24 }),
  chunkTokens: fc.integer({ min: 1, max: 8 }),
  waiting: fc.integer({ min: 1, max: 6 }),
  budget: fc.integer({ min: 3, max: 8 }),
});

const event: fc.Arbitrary<Event> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant("submit" as const),
      job: fc.constantFrom("generate" as const, "prefill" as const),
      tokens: fc.nat(),
      prompt: fc.nat(),
      weight: fc.nat(3),
      patience: fc.option(fc.integer({ min: 1, max: 30 }), { nil: undefined }),
    }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("cancel" as const), which: fc.nat() }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("time" as const), passes: fc.nat(10) }) },
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
  /** Running jobs by slot, as told by admission and endings alone. */
  readonly running = new Map<number, TestJob>();
  now = 0;
  lastKind: Step<TestJob>["kind"] | undefined;

  constructor(shape: Shape) {
    this.shape = shape;
    this.cache = Array.from({ length: shape.slots }, () => new Array(shape.contextTokens));
    this.batch = new Scheduler<TestJob>({
      slots: shape.slots,
      contextTokens: shape.contextTokens,
      chunkTokens: shape.chunkTokens,
      queue: new FifoQueue(shape.waiting),
      admit: (job, slot) => {
        if (this.weight() + job.weight > shape.budget) return { kind: "wait" };
        expect(this.running.has(slot)).toBe(false);
        for (let lower = 0; lower < slot; lower++) expect(this.running.has(lower)).toBe(true);
        this.running.set(slot, job);
        this.admissions.push(job.id);
        return { kind: "admit" };
      },
    });
  }

  weight(): number {
    return [...this.running.values()].reduce((sum, job) => sum + job.weight, 0);
  }

  apply(event: Event): void {
    if (event.kind === "time") {
      this.now += event.passes;
      this.take(this.batch.expire(this.now));
    } else if (event.kind === "cancel") {
      const id = this.arrivals[event.which % Math.max(1, this.arrivals.length)] ?? "nobody";
      this.cancelled.add(id);
      this.take(this.batch.cancel(id));
    } else {
      const tokens = 1 + (event.tokens % this.shape.contextTokens);
      const job: TestJob = {
        id: `job${this.submitted.size}`,
        tenant: "acme",
        kind: event.job,
        tokens,
        ...(event.prompt % 2 === 0 ? {} : { promptTokens: event.prompt % (tokens + 1) }),
        weight: event.weight,
        ...(event.patience === undefined ? {} : { deadline: this.now + event.patience }),
      };
      const full = this.batch.figures().waiting >= this.shape.waiting;
      const submission = this.batch.submit(job);
      expect(submission.kind).toBe(full ? "refused" : "queued");
      if (submission.kind === "refused") return;
      this.submitted.set(job.id, job);
      this.arrivals.push(job.id);
    }
  }

  /** One turn of the engine's loop. @returns whether there was anything to run */
  turn({ before, during, lost, outcomes }: Turn): boolean {
    for (const each of before) this.apply(each);
    const { step, ended } = this.batch.plan();
    this.take(ended);
    if (step === undefined) {
      expect(this.running.size).toBe(0);
      return false;
    }
    this.checkTurnTaking(step);
    this.lastKind = step.kind;
    const runningBefore = new Map(this.running);
    for (const each of during) this.apply(each);
    // Nobody enters or leaves a slot while a step reads and writes it.
    expect(this.running).toEqual(runningBefore);
    if (!lost) this.write(step);
    const get = (slot: number) => outcomes[slot % outcomes.length] as RowOutcome;
    if (lost) this.take(this.batch.failStep(step, "step"));
    else if (step.kind === "prefill") this.take(this.batch.completePrefill(step, get(step.slot)));
    else
      this.take(
        this.batch.completeDecode(
          step,
          step.rows.map((_, slot) => get(slot)),
        ),
      );
    return true;
  }

  take(ended: readonly Ended<TestJob>[]): void {
    for (const each of ended) {
      expect(this.ended.has(each.job.id)).toBe(false);
      expect(this.submitted.get(each.job.id)).toBe(each.job);
      this.ended.set(each.job.id, each);
      if (each.slot === undefined) continue;
      expect(this.running.get(each.slot)).toBe(each.job);
      this.running.delete(each.slot);
      // What is in a free slot is nobody's: idle rows may overwrite it.
      this.cache[each.slot]?.fill(undefined);
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
      expect(this.running.get(step.slot)).toBe(step.job);
      expect(step.start).toBe(this.filled(step.slot, step.job));
      const { tokens, promptTokens = tokens } = step.job;
      const { chunkTokens } = this.shape;
      const cuts = [promptTokens, tokens, Math.ceil((step.start + 1) / chunkTokens) * chunkTokens];
      expect(step.end).toBe(Math.min(...cuts.filter((position) => position > step.start)));
      expect(step.phase).toBe(step.start < promptTokens ? "prompt" : "generated");
      expect(step.isLast).toBe(step.end === step.job.tokens);
      this.cache[step.slot]?.fill(step.job.id, step.start, step.end);
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
        expect(row.position).toBeGreaterThanOrEqual(row.job.tokens);
        expect(row.position).toBe(this.filled(slot, row.job));
        (this.cache[slot] as (string | undefined)[])[row.position] = row.job.id;
      } else if (job === undefined) {
        expect(row.position).toBe(0);
      } else {
        // A decoding slot is never idle, and a prefilling one loses nothing.
        expect(row.position).toBe(this.filled(slot, job));
        expect(row.position).toBeLessThan(job.tokens);
      }
    });
    for (const [slot, job] of this.running) {
      const decoding = job.kind === "generate" && this.filled(slot, job) >= job.tokens;
      if (decoding) expect(step.rows[slot]?.kind).toBe("decode");
    }
  }

  /** With both kinds of work there, neither is done twice in a row. */
  checkTurnTaking(step: Step<TestJob>): void {
    const states = this.batch.slots.map((state) => state.kind);
    if (states.includes("prefilling") && states.includes("decoding")) expect(step.kind).not.toBe(this.lastKind);
  }
}

const GO_ON: Turn = { before: [], during: [], lost: false, outcomes: [{ kind: "continue" }] };

describe("Scheduler under random arrivals, cancels, deadlines and failures", () => {
  it("writes every position once and in order, lets jobs in first-come, ends each job once and leaks no slot", () => {
    fc.assert(
      fc.property(shapes, fc.array(turn, { maxLength: 60 }), (shape, turns) => {
        const rig = new Rig(shape);
        for (const each of turns) rig.turn(each);

        // Every job left needs at most its positions in steps, alternating with the others' chunks.
        const bound = 2 * (rig.submitted.size - rig.ended.size) * (shape.contextTokens + 1);
        let steps = 0;
        while (rig.turn(GO_ON)) expect(++steps).toBeLessThanOrEqual(bound);

        expect(rig.batch.empty).toBe(true);
        expect(rig.batch.figures()).toMatchObject({ running: 0, waiting: 0, positions: 0 });
        expect([...rig.ended.keys()].sort()).toEqual([...rig.submitted.keys()].sort());
        const admitted = new Set(rig.admissions);
        expect(rig.admissions).toEqual(rig.arrivals.filter((id) => admitted.has(id)));
        for (const [id, { ending, slot, job }] of rig.ended) {
          if (!admitted.has(id)) expect(["cancelled", "expired"]).toContain(ending.kind);
          expect(slot !== undefined).toBe(admitted.has(id));
          if (ending.kind === "cancelled") expect(rig.cancelled.has(id)).toBe(true);
          if (ending.kind === "expired") expect(job.deadline).toBeLessThanOrEqual(rig.now);
        }
      }),
      { numRuns: 500 },
    );
  });

  it("lets in whoever can run: no free slot stays empty while the head of the queue would be admitted", () => {
    fc.assert(
      fc.property(shapes, fc.array(turn, { maxLength: 40 }), (shape, turns) => {
        const rig = new Rig(shape);
        for (const each of turns) {
          rig.turn({ ...each, during: [] });
          rig.batch.figures();
          const { step, ended } = rig.batch.plan();
          rig.take(ended);
          const head = rig.arrivals.find((id) => !rig.ended.has(id) && !rig.admissions.includes(id));
          if (head !== undefined && rig.running.size < shape.slots) {
            expect(rig.weight() + (rig.submitted.get(head)?.weight ?? 0)).toBeGreaterThan(shape.budget);
          }
          if (step !== undefined) rig.take(rig.batch.failStep(step, "step"));
        }
      }),
      { numRuns: 200 },
    );
  });

  it("leaves at most one step between a cancel and the free slot", () => {
    fc.assert(
      fc.property(shapes, fc.array(turn, { minLength: 1, maxLength: 30 }), fc.nat(), (shape, turns, pick) => {
        const rig = new Rig(shape);
        for (const each of turns) rig.turn(each);
        const { step, ended } = rig.batch.plan();
        rig.take(ended);
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

  it("drains: what waits leaves at once, what runs ends by itself, nobody new comes in", () => {
    fc.assert(
      fc.property(shapes, fc.array(turn, { maxLength: 30 }), (shape, turns) => {
        const rig = new Rig(shape);
        for (const each of turns) rig.turn(each);
        const running = new Set([...rig.running.values()].map((job) => job.id));
        rig.take(rig.batch.drain());
        expect(rig.batch.submit({ id: "late", tenant: "acme", kind: "generate", tokens: 1, weight: 0 }).kind).toBe(
          "refused",
        );
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
