import { Admissions } from "./admissions.ts";
import { checkFilled, checkJob } from "./checks.ts";
import { chooseStep } from "./choose-step.ts";
import type { Ended, Ending, Job } from "./job.ts";
import type { Plan, Refused, SchedulerFigures, SchedulerOptions, Submission } from "./scheduler-contract.ts";
import { settleChunk, settleRow } from "./settle.ts";
import { type SlotState, Slots } from "./slots.ts";
import type { DecodeStep, PrefillStep, RowOutcome, Step } from "./step.ts";

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
 * hold what it needs and no new ones start; letting small personas overtake could starve a large one for ever. Followers
 * stand outside of all that: see {@link Follower}. A job that gave its slot up goes on later in whatever slot is free, from the
 * very position where it was.
 */
export class Scheduler<J extends Job> {
  readonly #options: SchedulerOptions<J>;
  readonly #slots: Slots<J>;
  readonly #admissions: Admissions<J>;
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
    this.#slots = new Slots(options.slots);
    this.#admissions = new Admissions(this.#slots, options);
  }

  /** What {@link submit} would say to any job of a tenant now, before anything was done for it; undefined while one may wait. */
  refusal(tenant: string): Refused | undefined {
    if (!this.#accepting) return { kind: "refused", reason: "DRAINING" };
    const full = this.#admissions.full(tenant);
    return full && { kind: "refused", ...full };
  }

  /**
   * Put a job into the queue; a follower is looked at in the next plan.
   *
   * @throws RangeError for a job that could never run: the caller checks prompts first, and can say more about them
   */
  submit(job: J): Submission {
    checkJob(job, this.#options.contextTokens);
    if (this.#admissions.has(job.id) || this.#slots.slotOf(job.id) !== undefined) {
      throw new RangeError(`job ${job.id} is here already`);
    }
    if (!this.#accepting) return { kind: "refused", reason: "DRAINING" };
    const refusal = this.#admissions.offer(job);
    return refusal === undefined ? { kind: "queued" } : { kind: "refused", ...refusal };
  }

  /** Let waiting jobs in, and say what to run next. @throws Error while a step is in flight */
  plan(): Plan<J> {
    if (this.#inFlight !== undefined) throw new Error("the step in flight has not been completed");
    const ended = this.#admissions.admit();
    this.#inFlight = chooseStep(this.#slots, this.#options.chunkTokens, this.#lastStep);
    if (this.#inFlight !== undefined) this.#lastStep = this.#inFlight.kind;
    return { step: this.#inFlight, ended };
  }

  /** A chunk is done. For the last chunk of a `generate` job, `outcome` is that of its first token. */
  completePrefill(step: PrefillStep<J>, outcome: RowOutcome): Ended<J>[] {
    this.#land(step);
    this.#slots.count(step.slot, step.end - step.start);
    settleChunk(this.#slots, this.#options.contextTokens, step, outcome);
    return this.#admissions.release();
  }

  /**
   * A chunk was not computed, because its keys and values were there already, and maybe those of chunks after it.
   *
   * @param end - positions before it are in the slot: a multiple of the chunk size, and not the job's last
   * @throws RangeError for others; nothing has changed then
   */
  completeFilled(step: PrefillStep<J>, end: number): Ended<J>[] {
    this.#assertInFlight(step);
    checkFilled(step, end, this.#options.chunkTokens);
    this.#land(step);
    if (this.#slots.state(step.slot).kind === "prefilling") this.#slots.advancePrefill(step.slot, end);
    return this.#admissions.release();
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
      if (row.kind === "decode") this.#slots.count(slot, 1);
      if (row.kind === "decode" && outcome !== undefined) {
        settleRow(this.#slots, this.#options.contextTokens, slot, row, outcome);
      }
    });
    return this.#admissions.release();
  }

  /** The step as a whole was lost: its jobs fail, the others go on. What it wrote was at positions yet to be written. */
  failStep(step: Step<J>, error: unknown): Ended<J>[] {
    this.#land(step);
    const { contextTokens } = this.#options;
    const fail: RowOutcome = { kind: "fail", error };
    if (step.kind === "prefill") settleChunk(this.#slots, contextTokens, step, fail);
    else {
      step.rows.forEach((row, slot) => {
        if (row.kind === "decode") settleRow(this.#slots, contextTokens, slot, row, fail);
      });
    }
    return this.#admissions.release();
  }

  /** End a job that its caller no longer wants. Unknown ids, as of jobs that have ended, are ignored. */
  cancel(id: string): Ended<J>[] {
    return this.#end(id, { kind: "cancelled" });
  }

  /** Take no more jobs and send away those that wait to start; what has started goes on to its end. */
  drain(): Ended<J>[] {
    this.#accepting = false;
    return this.#admissions.waiting().flatMap((job) => this.#end(job.id, { kind: "drained" }));
  }

  /** Drain, and end what runs as well: the time for draining is over, or the runtime is broken. */
  stop(): Ended<J>[] {
    const ended = this.drain();
    const running = this.#slots.states.flatMap((state) => ("job" in state ? [state.job] : []));
    return [
      ...ended,
      ...[...running, ...this.#admissions.suspended()].flatMap((job) => this.#end(job.id, { kind: "drained" })),
    ];
  }

  /** No job waits or runs. */
  get empty(): boolean {
    return this.#admissions.isEmpty && this.#slots.states.every((state) => state.kind === "free");
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
      waiting: this.#options.queue.size,
      preempted: this.#options.queue.preempted,
      queueCapacity: this.#options.queue.capacity,
      positions: states.reduce((sum, state) => sum + ("next" in state ? state.next : 0), 0),
    };
  }

  #end(id: string, ending: Ending): Ended<J>[] {
    const waiting = this.#admissions.remove(id);
    if (waiting !== undefined) return [{ job: waiting, ending }];
    const slot = this.#slots.slotOf(id);
    if (slot === undefined) return [];
    const state = this.#slots.state(slot);
    if (state.kind === "prefilling" || state.kind === "decoding") this.#slots.leave(slot, state.job, ending);
    return this.#inFlight === undefined ? this.#admissions.release() : [];
  }

  #land(step: Step<J>): void {
    this.#assertInFlight(step);
    this.#inFlight = undefined;
  }

  #assertInFlight(step: Step<J>): void {
    if (step !== this.#inFlight) throw new Error(`this ${step.kind} step is not in flight`);
  }
}
