import type { AdmissionQueue } from "./admission-queue.ts";
import type { Ended, Ending, Job } from "./job.ts";
import { type SlotState, Slots } from "./slots.ts";
import type { DecodeRow, DecodeStep, PrefillStep, RowOutcome, Step } from "./step.ts";

/** May the head of the queue start in `slot` now? */
export type Admission =
  | { readonly kind: "admit" }
  /** Not yet. It keeps its place, and nobody overtakes it. */
  | { readonly kind: "wait" }
  /** Never: it ends as failed. */
  | { readonly kind: "refuse"; readonly error: unknown };

export interface SchedulerOptions<J extends Job> {
  /** Rows of the KV cache: how many jobs run at once. */
  readonly slots: number;
  /** Positions per slot: prompt and reply together. */
  readonly contextTokens: number;
  /**
   * Most positions per prefill step. Chunk c is always positions c·size to (c+1)·size − 1 of the slot, whatever else
   * runs, so that a prompt's keys and values are computed the same way every time.
   */
  readonly chunkTokens: number;
  readonly queue: AdmissionQueue<J>;
  /** Called within {@link Scheduler.plan}, between steps, when a slot is free. A throw refuses the job. @default admits */
  readonly admit?: (job: J, slot: number) => Admission;
}

export type Submission =
  | { readonly kind: "queued" }
  /** As many jobs wait as may wait. */
  | { readonly kind: "refused"; readonly reason: "QUEUE_FULL" }
  /** The worker stops. */
  | { readonly kind: "refused"; readonly reason: "DRAINING" };

export interface Plan<J extends Job> {
  /** What to run; undefined when nothing can run until a job arrives. Feed its result back before the next plan. */
  readonly step: Step<J> | undefined;
  /** Jobs that admission refused. */
  readonly ended: readonly Ended<J>[];
}

export interface SchedulerFigures {
  readonly slots: number;
  /** Slots with a job, of either kind below or on their way out. */
  readonly running: number;
  readonly prefilling: number;
  readonly decoding: number;
  readonly waiting: number;
  readonly queueCapacity: number;
  /** Positions of the KV cache in use. */
  readonly positions: number;
}

/**
 * The continuous batch as a state machine: no clock, no model, no I/O.
 *
 * The engine repeats: {@link plan} a step, run it, feed the result back through {@link completePrefill},
 * {@link completeDecode} or {@link failStep}. Jobs arrive and leave at any time, also while a step is in flight; a job
 * that leaves then keeps its slot until the step is over, because the step reads and writes it. Every job submitted
 * comes back in exactly one {@link Ended}.
 *
 * Chunks and decode steps alternate while there are both, so a long prompt delays running streams by one chunk per
 * token; prompts take turns chunk by chunk. Admission is strict about the queue's order: a head that has to wait (its
 * persona finds the steering table full) holds back everybody behind it. That wait is bounded, since only running jobs
 * hold what it needs and no new ones start; letting small personas overtake could starve a large one for ever.
 */
export class Scheduler<J extends Job> {
  readonly #options: SchedulerOptions<J>;
  readonly #queue: AdmissionQueue<J>;
  readonly #slots: Slots<J>;
  #inFlight: Step<J> | undefined;
  #lastStep: Step<J>["kind"] = "decode";
  #accepting = true;

  constructor(options: SchedulerOptions<J>) {
    for (const name of ["slots", "contextTokens", "chunkTokens"] as const) {
      if (!Number.isSafeInteger(options[name]) || options[name] < 1) {
        throw new RangeError(`scheduler: ${name} must be a positive integer, not ${options[name]}`);
      }
    }
    this.#options = options;
    this.#queue = options.queue;
    this.#slots = new Slots(options.slots);
  }

  /**
   * Put a job into the queue.
   *
   * @throws RangeError for a job that could never run: the caller checks prompts first, and can say more about them
   */
  submit(job: J): Submission {
    const { contextTokens } = this.#options;
    if (!Number.isSafeInteger(job.tokens) || job.tokens < 1 || job.tokens > contextTokens) {
      throw new RangeError(`job ${job.id}: ${job.tokens} tokens, a slot takes 1 to ${contextTokens}`);
    }
    const { promptTokens = job.tokens } = job;
    if (!Number.isSafeInteger(promptTokens) || promptTokens < 0 || promptTokens > job.tokens) {
      throw new RangeError(`job ${job.id}: a prompt of ${promptTokens} of its ${job.tokens} tokens`);
    }
    if (this.#queue.has(job.id) || this.#slots.slotOf(job.id) !== undefined) {
      throw new RangeError(`job ${job.id} is here already`);
    }
    if (!this.#accepting) return { kind: "refused", reason: "DRAINING" };
    if (!this.#queue.offer(job)) return { kind: "refused", reason: "QUEUE_FULL" };
    return { kind: "queued" };
  }

  /** Let waiting jobs in, and say what to run next. @throws Error while a step is in flight */
  plan(): Plan<J> {
    if (this.#inFlight !== undefined) throw new Error("the step in flight has not been completed");
    const ended = this.#admit();
    this.#inFlight = this.#choose();
    if (this.#inFlight !== undefined) this.#lastStep = this.#inFlight.kind;
    return { step: this.#inFlight, ended };
  }

  /** A chunk is done. For the last chunk of a `generate` job, `outcome` is that of its first token. */
  completePrefill(step: PrefillStep<J>, outcome: RowOutcome): Ended<J>[] {
    this.#land(step);
    this.#settlePrefill(step, outcome);
    return this.#freeLeaving();
  }

  /**
   * A decode step is done.
   *
   * @param outcomes - by slot; one for every row that decodes, except for jobs that left meanwhile
   * @throws Error when one is missing; nothing has changed then
   */
  completeDecode(step: DecodeStep<J>, outcomes: readonly (RowOutcome | undefined)[]): Ended<J>[] {
    this.#assertInFlight(step);
    step.rows.forEach((row, slot) => {
      if (row.kind === "decode" && this.#slots.state(slot).kind === "decoding" && outcomes[slot] === undefined) {
        throw new Error(`no outcome for job ${row.job.id} in slot ${slot}`);
      }
    });
    this.#land(step);
    step.rows.forEach((row, slot) => {
      const outcome = outcomes[slot];
      if (row.kind === "decode" && outcome !== undefined) this.#settleDecode(slot, row, outcome);
    });
    return this.#freeLeaving();
  }

  /** The step as a whole was lost: its jobs fail, the others go on. What it wrote was at positions yet to be written. */
  failStep(step: Step<J>, error: unknown): Ended<J>[] {
    this.#land(step);
    const fail: RowOutcome = { kind: "fail", error };
    if (step.kind === "prefill") this.#settlePrefill(step, fail);
    else {
      step.rows.forEach((row, slot) => {
        if (row.kind === "decode") this.#settleDecode(slot, row, fail);
      });
    }
    return this.#freeLeaving();
  }

  /** End a job that its caller no longer wants. Unknown ids, as of jobs that have ended, are ignored. */
  cancel(id: string): Ended<J>[] {
    return this.#end(id, { kind: "cancelled" });
  }

  /** End the jobs whose deadline is at or before `now`. */
  expire(now: number): Ended<J>[] {
    return this.#live()
      .filter((job) => job.deadline !== undefined && job.deadline <= now)
      .flatMap((job) => this.#end(job.id, { kind: "expired" }));
  }

  /** The earliest deadline of a job that waits or runs: when to call {@link expire} at the latest. */
  nextDeadline(): number | undefined {
    const deadlines = this.#live().flatMap((job) => job.deadline ?? []);
    return deadlines.length === 0 ? undefined : deadlines.reduce((a, b) => Math.min(a, b));
  }

  /** Take no more jobs and send the waiting ones away; what runs goes on to its end. */
  drain(): Ended<J>[] {
    this.#accepting = false;
    return [...this.#queue.jobs()].flatMap((job) => this.#end(job.id, { kind: "drained" }));
  }

  /** Drain, and end what runs as well: the time for draining is over, or the runtime is broken. */
  stop(): Ended<J>[] {
    return [...this.drain(), ...this.#live().flatMap((job) => this.#end(job.id, { kind: "drained" }))];
  }

  get draining(): boolean {
    return !this.#accepting;
  }

  /** No job waits or runs. */
  get empty(): boolean {
    return this.#queue.size === 0 && this.#slots.states.every((state) => state.kind === "free");
  }

  /** One state per slot, as of now. */
  get slots(): readonly SlotState<J>[] {
    return this.#slots.states;
  }

  figures(): SchedulerFigures {
    const states = this.#slots.states;
    const count = (kind: SlotState<J>["kind"]) => states.filter((state) => state.kind === kind).length;
    return {
      slots: states.length,
      running: states.length - count("free"),
      prefilling: count("prefilling"),
      decoding: count("decoding"),
      waiting: this.#queue.size,
      queueCapacity: this.#queue.capacity,
      positions: states.reduce((sum, state) => sum + ("next" in state ? state.next : 0), 0),
    };
  }

  #admit(): Ended<J>[] {
    const ended: Ended<J>[] = [];
    for (;;) {
      const slot = this.#slots.lowestFree();
      const job = this.#queue.head();
      if (slot === undefined || job === undefined) return ended;
      const admission = this.#ask(job, slot);
      if (admission.kind === "wait") return ended;
      this.#queue.remove(job.id);
      if (admission.kind === "admit") this.#slots.occupy(slot, job);
      else ended.push({ job, ending: { kind: "failed", error: admission.error } });
    }
  }

  #ask(job: J, slot: number): Admission {
    try {
      return this.#options.admit?.(job, slot) ?? { kind: "admit" };
    } catch (error) {
      return { kind: "refuse", error };
    }
  }

  #choose(): Step<J> | undefined {
    const prefill = this.#slots.nextToPrefill();
    const highest = this.#slots.highestDecoding();
    if (prefill !== undefined && (highest === undefined || this.#lastStep === "decode")) return this.#chunk(prefill);
    return highest === undefined ? undefined : { kind: "decode", rows: this.#rows(highest + 1) };
  }

  #chunk(slot: number): PrefillStep<J> {
    const state = this.#slots.state(slot);
    if (state.kind !== "prefilling") throw new Error(`slot ${slot} has its turn to prefill but is ${state.kind}`);
    const { job, next: start } = state;
    const { chunkTokens } = this.#options;
    const { promptTokens = job.tokens } = job;
    const phase = start < promptTokens ? "prompt" : "generated";
    const boundary = (Math.floor(start / chunkTokens) + 1) * chunkTokens;
    const end = Math.min(boundary, phase === "prompt" ? promptTokens : job.tokens);
    return { kind: "prefill", slot, job, start, end, phase, isLast: end === job.tokens };
  }

  #rows(count: number): DecodeRow<J>[] {
    return this.#slots.states.slice(0, count).map((state) => {
      if (state.kind === "decoding") return { kind: "decode", job: state.job, position: state.next };
      return { kind: "idle", position: state.kind === "prefilling" ? state.next : 0 };
    });
  }

  #settlePrefill(step: PrefillStep<J>, outcome: RowOutcome): void {
    const { slot, job, end } = step;
    if (this.#slots.state(slot).kind === "leaving") return;
    const ending = endingOf(outcome);
    if (ending !== undefined) this.#slots.leave(slot, job, ending);
    else if (step.isLast && job.kind === "prefill") this.#finish(slot, job, "prefilled");
    else if (end >= this.#options.contextTokens) this.#finish(slot, job, "context");
    else this.#slots.advancePrefill(slot, job, end);
  }

  #settleDecode(slot: number, { job, position }: { job: J; position: number }, outcome: RowOutcome): void {
    if (this.#slots.state(slot).kind === "leaving") return;
    const ending = endingOf(outcome);
    const next = position + 1;
    if (ending !== undefined) this.#slots.leave(slot, job, ending);
    // A full slot has no unwritten position to point at: it must not be in another step.
    else if (next >= this.#options.contextTokens) this.#finish(slot, job, "context");
    else this.#slots.advanceDecode(slot, job, next);
  }

  #finish(slot: number, job: J, reason: "context" | "prefilled"): void {
    this.#slots.leave(slot, job, { kind: "finished", reason });
  }

  #end(id: string, ending: Ending): Ended<J>[] {
    const waiting = this.#queue.remove(id);
    if (waiting !== undefined) return [{ job: waiting, ending }];
    const slot = this.#slots.slotOf(id);
    if (slot === undefined) return [];
    const state = this.#slots.state(slot);
    if (state.kind === "prefilling" || state.kind === "decoding") this.#slots.leave(slot, state.job, ending);
    return this.#inFlight === undefined ? this.#freeLeaving() : [];
  }

  #freeLeaving(): Ended<J>[] {
    const ended: Ended<J>[] = [];
    this.#slots.states.forEach((state, slot) => {
      if (state.kind !== "leaving") return;
      this.#slots.free(slot, state.job);
      ended.push({ job: state.job, ending: state.ending, slot });
    });
    return ended;
  }

  #live(): J[] {
    const running = this.#slots.states.flatMap((state) =>
      state.kind === "prefilling" || state.kind === "decoding" ? [state.job] : [],
    );
    return [...running, ...this.#queue.jobs()];
  }

  #land(step: Step<J>): void {
    this.#assertInFlight(step);
    this.#inFlight = undefined;
  }

  #assertInFlight(step: Step<J>): void {
    if (step !== this.#inFlight) throw new Error(`this ${step.kind} step is not in flight`);
  }
}

function endingOf(outcome: RowOutcome): Ending | undefined {
  if (outcome.kind === "continue") return undefined;
  return outcome.kind === "finish"
    ? { kind: "finished", reason: outcome.reason }
    : { kind: "failed", error: outcome.error };
}
