import { describe, expect, it } from "vitest";
import { FairQueue } from "./fair-queue.ts";
import type { Ended, Job } from "./job.ts";
import { Scheduler } from "./scheduler.ts";
import type { Admission, SchedulerOptions } from "./scheduler-contract.ts";
import type { DecodeStep, PrefillStep, RowOutcome, Step } from "./step.ts";

const GO_ON: RowOutcome = { kind: "continue" };
const END: RowOutcome = { kind: "finish", reason: "end" };

function scheduler(options: Partial<SchedulerOptions<Job>> & { waiting?: number } = {}): Scheduler<Job> {
  const { waiting = 8, ...rest } = options;
  const everything = { weight: 1, maxRunning: 99, maxWaiting: 99, tokensPerMinute: Number.POSITIVE_INFINITY };
  const queue = new FairQueue<Job>({ capacity: waiting, share: () => everything, clock: () => 0 });
  return new Scheduler({ slots: 2, contextTokens: 16, chunkTokens: 4, queue, ...rest });
}

function generate(id: string, tokens: number): Job {
  return { id, tenant: "acme", kind: "generate", tokens };
}

/** The next step, which must be a prefill chunk. */
function chunk(batch: Scheduler<Job>): PrefillStep<Job> {
  const { step } = batch.plan();
  if (step?.kind !== "prefill") throw new Error(`expected a chunk, got ${step?.kind}`);
  return step;
}

function decode(batch: Scheduler<Job>): DecodeStep<Job> {
  const { step } = batch.plan();
  if (step?.kind !== "decode") throw new Error(`expected a decode step, got ${step?.kind}`);
  return step;
}

/** Run `step` with the same outcome for every job in it. */
function complete(batch: Scheduler<Job>, step: Step<Job>, outcome: RowOutcome = GO_ON): Ended<Job>[] {
  return step.kind === "prefill"
    ? batch.completePrefill(step, outcome)
    : batch.completeDecode(
        step,
        step.rows.map(() => outcome),
      );
}

function shown(step: Step<Job>): string {
  if (step.kind === "prefill") return `${step.job.id}[${step.start},${step.end})${step.isLast ? "!" : ""}`;
  return step.rows
    .map((row) => (row.kind === "decode" ? `${row.job.id}@${row.position}` : `-@${row.position}`))
    .join(" ");
}

/** Plan and complete `count` steps; what each of them was. */
function trace(batch: Scheduler<Job>, count: number): string[] {
  return Array.from({ length: count }, () => {
    const { step } = batch.plan();
    if (step === undefined) return "nothing";
    complete(batch, step);
    return shown(step);
  });
}

function endings(ended: readonly Ended<Job>[]): string[] {
  return ended.map(({ job, ending }) => `${job.id} ${ending.kind === "finished" ? ending.reason : ending.kind}`);
}

describe("Scheduler", () => {
  it("prefills in chunks at fixed boundaries, then decodes one position per step", () => {
    const batch = scheduler();
    batch.submit(generate("a", 10));
    expect(trace(batch, 5)).toEqual(["a[0,4)", "a[4,8)", "a[8,10)!", "a@10", "a@11"]);
  });

  it("leaves no position alone, unless there is but one", () => {
    const chunks = (tokens: number, promptTokens = tokens, chunkTokens = 4) => {
      const batch = scheduler({ contextTokens: 400, chunkTokens });
      batch.submit({ id: "s", tenant: "acme", kind: "prefill", tokens, promptTokens });
      const steps: string[] = [];
      for (let step = batch.plan().step; step !== undefined; step = batch.plan().step) {
        steps.push(shown(step).slice(1));
        complete(batch, step);
      }
      return steps.join(" ");
    };
    expect(chunks(1)).toBe("[0,1)!");
    expect(chunks(5)).toBe("[0,3) [3,5)!");
    expect(chunks(9)).toBe("[0,4) [4,7) [7,9)!");
    expect(chunks(12, 7)).toBe("[0,4) [4,7) [7,9) [9,12)!");
    expect(chunks(10, 7)).toBe("[0,4) [4,7) [7,10)!");
    expect(chunks(10, 9)).toBe("[0,4) [4,7) [7,9) [9,10)!");
    expect(chunks(4, 4, 1)).toBe("[0,2) [2,4)!");
    expect(chunks(3, 3, 2)).toBe("[0,3)!");
    // Kernels take 64 rows at once.
    expect(chunks(65, 65, 128)).toBe("[0,63) [63,65)!");
    expect(chunks(65, 65, 64)).toBe("[0,63) [63,65)!");
    expect(chunks(193, 193, 128)).toBe("[0,128) [128,191) [191,193)!");
  });

  it("splits a chunk where the prompt ends and the scored continuation begins, and returns to the fixed boundaries", () => {
    const batch = scheduler();
    batch.submit({ id: "s", tenant: "acme", kind: "prefill", tokens: 11, promptTokens: 6 });
    const phases: string[] = [];
    for (let step = batch.plan().step; step?.kind === "prefill"; step = batch.plan().step) {
      phases.push(`${shown(step)} ${step.phase}`);
      complete(batch, step);
    }
    expect(phases).toEqual(["s[0,4) prompt", "s[4,6) prompt", "s[6,8) generated", "s[8,11)! generated"]);
    batch.submit({ id: "t", tenant: "acme", kind: "prefill", tokens: 4, promptTokens: 0 });
    expect(chunk(batch)).toMatchObject({ start: 0, end: 4, phase: "generated", isLast: true });
  });

  it("alternates chunks with decode steps, and gives waiting prompts turns", () => {
    const batch = scheduler({ slots: 3 });
    batch.submit(generate("a", 2));
    expect(trace(batch, 2)).toEqual(["a[0,2)!", "a@2"]);
    batch.submit(generate("b", 8));
    batch.submit(generate("c", 7));
    expect(trace(batch, 9)).toEqual([
      "b[0,4)",
      "a@3",
      "c[0,4)",
      "a@4",
      "b[4,8)!",
      "a@5 b@8",
      "c[4,7)!",
      "a@6 b@9 c@7",
      "a@7 b@10 c@8",
    ]);
  });

  it("points idle rows at the next unwritten position and leaves slots above the highest decoding one out", () => {
    const batch = scheduler({ slots: 3 });
    batch.submit(generate("a", 16));
    batch.submit(generate("b", 1));
    batch.submit(generate("c", 16));
    expect(trace(batch, 3)).toEqual(["a[0,4)", "b[0,1)!", "-@4 b@1"]);
  });

  it("gives a free slot's row position 0", () => {
    const batch = scheduler();
    batch.submit(generate("a", 3));
    batch.submit(generate("b", 3));
    trace(batch, 3);
    batch.cancel("a");
    expect(trace(batch, 1)).toEqual(["-@0 b@3"]);
  });

  it("lets a job join in the lowest free slot while others decode", () => {
    const batch = scheduler({ slots: 3 });
    for (const id of ["a", "b", "c"]) batch.submit(generate(id, 1));
    trace(batch, 6);
    batch.cancel("b");
    batch.cancel("a");
    batch.submit(generate("d", 1));
    expect(chunk(batch)).toMatchObject({ slot: 0, job: { id: "d" } });
  });

  it("ends a job at the token that finishes it, and starts the next one in its slot", () => {
    const batch = scheduler({ slots: 1 });
    batch.submit(generate("a", 1));
    batch.submit(generate("b", 1));
    expect(endings(complete(batch, chunk(batch)))).toEqual([]);
    expect(complete(batch, decode(batch), END)).toEqual([
      { job: generate("a", 1), ending: { kind: "finished", reason: "end" }, slot: 0 },
    ]);
    expect(shown(chunk(batch))).toBe("b[0,1)!");
  });

  it("finishes a job whose very first token ends it, without a decode step", () => {
    const batch = scheduler();
    batch.submit(generate("a", 4));
    expect(endings(complete(batch, chunk(batch), END))).toEqual(["a end"]);
    expect(batch.plan()).toEqual({ step: undefined, ended: [] });
    expect(batch.empty).toBe(true);
  });

  it("finishes a slot that is full before it could be stepped", () => {
    const batch = scheduler({ contextTokens: 6 });
    batch.submit(generate("a", 4));
    complete(batch, chunk(batch));
    expect(endings(complete(batch, decode(batch)))).toEqual([]);
    const last = decode(batch);
    expect(shown(last)).toBe("a@5");
    expect(endings(complete(batch, last))).toEqual(["a context"]);
  });

  it("samples one token after a prompt that fills the context", () => {
    const batch = scheduler({ contextTokens: 6 });
    batch.submit(generate("a", 6));
    complete(batch, chunk(batch));
    expect(endings(complete(batch, chunk(batch)))).toEqual(["a context"]);
  });

  it("ends a prefill job after its last chunk", () => {
    const batch = scheduler();
    batch.submit({ id: "s", tenant: "acme", kind: "prefill", tokens: 6 });
    expect(endings(complete(batch, chunk(batch)))).toEqual([]);
    expect(endings(complete(batch, chunk(batch)))).toEqual(["s prefilled"]);
    expect(batch.empty).toBe(true);
  });

  it("refuses more waiting jobs than it has room for, and any when draining", () => {
    const batch = scheduler({ slots: 1, waiting: 3 });
    const queued = { kind: "queued" };
    // One for the slot, two to wait; the last place is for somebody else.
    expect(["a", "b", "c", "d"].map((id) => batch.submit(generate(id, 1)))).toEqual([
      queued,
      queued,
      queued,
      { kind: "refused", reason: "QUEUE_FULL", whose: "tenant" },
    ]);
    expect(batch.submit({ ...generate("other", 1), tenant: "globex" })).toEqual(queued);
    expect(batch.submit({ ...generate("third", 1), tenant: "initech" })).toEqual({
      kind: "refused",
      reason: "QUEUE_FULL",
      whose: "everybody",
    });
    trace(batch, 1);
    expect(batch.submit(generate("d", 1))).toMatchObject({ reason: "QUEUE_FULL" });
    expect(endings(batch.drain())).toEqual(["b drained", "c drained", "other drained"]);
    expect(batch.submit(generate("d", 1))).toEqual({ kind: "refused", reason: "DRAINING" });
    expect(trace(batch, 2)).toEqual(["a@1", "a@2"]);
    expect(batch.empty).toBe(false);
    expect(endings(batch.stop())).toEqual(["a drained"]);
    expect(batch.empty).toBe(true);
  });

  it("refuses jobs that could never run or are here already", () => {
    const batch = scheduler();
    for (const tokens of [0, -1, 1.5, 17, Number.NaN]) {
      expect(() => batch.submit(generate("a", tokens))).toThrow(/a slot takes 1 to 16/);
    }
    for (const promptTokens of [-1, 3, 0.5]) {
      expect(() => batch.submit({ ...generate("a", 2), promptTokens })).toThrow(/a prompt of/);
    }
    batch.submit(generate("a", 1));
    expect(() => batch.submit(generate("a", 1))).toThrow(/here already/);
    trace(batch, 1);
    expect(() => batch.submit(generate("a", 1))).toThrow(/here already/);
    batch.cancel("a");
    expect(batch.submit(generate("a", 1))).toEqual({ kind: "queued" });
  });

  it("cancels a waiting job at once and a running one between steps at once", () => {
    const batch = scheduler({ slots: 1 });
    batch.submit(generate("a", 1));
    batch.submit(generate("b", 1));
    trace(batch, 1);
    expect(batch.cancel("b")).toEqual([{ job: generate("b", 1), ending: { kind: "cancelled" } }]);
    expect(batch.cancel("a")).toEqual([{ job: generate("a", 1), ending: { kind: "cancelled" }, slot: 0 }]);
    expect(batch.cancel("a")).toEqual([]);
    expect(batch.empty).toBe(true);
  });

  it("keeps the slot of a job cancelled in flight until the step is over, and drops its result", () => {
    const batch = scheduler({ slots: 1 });
    batch.submit(generate("a", 1));
    batch.submit(generate("b", 1));
    trace(batch, 1);
    const step = decode(batch);
    expect(batch.cancel("a")).toEqual([]);
    expect(batch.cancel("a")).toEqual([]);
    expect(batch.figures().running).toBe(1);
    expect(endings(complete(batch, step, END))).toEqual(["a cancelled"]);
    expect(shown(chunk(batch))).toBe("b[0,1)!");
  });

  it("keeps the slot of a prefilling job cancelled during somebody else's step", () => {
    const batch = scheduler();
    batch.submit(generate("a", 9));
    batch.submit(generate("b", 1));
    trace(batch, 2);
    const step = decode(batch);
    expect(shown(step)).toBe("-@4 b@1");
    expect(batch.cancel("a")).toEqual([]);
    expect(endings(complete(batch, step))).toEqual(["a cancelled"]);
    expect(trace(batch, 1)).toEqual(["-@0 b@2"]);
  });

  it("needs no outcome for a job that left in flight, but one for every other", () => {
    const batch = scheduler();
    batch.submit(generate("a", 1));
    batch.submit(generate("b", 1));
    trace(batch, 3);
    const step = decode(batch);
    expect(shown(step)).toBe("a@2 b@1");
    batch.cancel("b");
    expect(() => batch.completeDecode(step, [undefined, GO_ON])).toThrow(/no outcome for job a in slot 0/);
    expect(endings(batch.completeDecode(step, [GO_ON]))).toEqual(["b cancelled"]);
    expect(trace(batch, 1)).toEqual(["a@3"]);
  });

  it("fails only the jobs of a lost step", () => {
    const batch = scheduler({ slots: 3 });
    batch.submit(generate("a", 1));
    batch.submit(generate("b", 9));
    trace(batch, 4);
    const error = new Error("out of memory");
    expect(batch.failStep(chunk(batch), error)).toEqual([
      { job: generate("b", 9), ending: { kind: "failed", error }, slot: 1 },
    ]);
    batch.submit(generate("c", 9));
    trace(batch, 3);
    expect(endings(batch.failStep(chunk(batch), error))).toEqual(["c failed"]);
    batch.submit(generate("d", 10));
    trace(batch, 3);
    const step = chunk(batch);
    complete(batch, step);
    expect(endings(batch.failStep(decode(batch), error))).toEqual(["a failed"]);
    expect(trace(batch, 1)).toEqual(["d[8,10)!"]);
  });

  it("fails one row of a decode step and goes on with the others", () => {
    const batch = scheduler();
    batch.submit(generate("a", 1));
    batch.submit(generate("b", 1));
    trace(batch, 3);
    const step = decode(batch);
    expect(shown(step)).toBe("a@2 b@1");
    const error = new Error("overflow");
    expect(batch.completeDecode(step, [{ kind: "fail", error }, GO_ON])).toEqual([
      { job: generate("a", 1), ending: { kind: "failed", error }, slot: 0 },
    ]);
    expect(trace(batch, 1)).toEqual(["-@0 b@2"]);
  });

  it("holds everybody back while the head has to wait, and goes on in order", () => {
    const verdicts: Admission[] = [{ kind: "wait" }, { kind: "wait" }, { kind: "admit" }, { kind: "admit" }];
    const asked: string[] = [];
    const batch = scheduler({
      admit: (job, slot) => {
        asked.push(`${job.id}>${slot}`);
        return verdicts.shift() ?? { kind: "wait" };
      },
    });
    batch.submit(generate("a", 1));
    batch.submit(generate("b", 1));
    expect(trace(batch, 3)).toEqual(["nothing", "nothing", "a[0,1)!"]);
    expect(asked).toEqual(["a>0", "a>0", "a>0", "b>1"]);
  });

  it("ends a job that admission refuses or throws at, and asks the next one", () => {
    const error = new Error("revoked");
    const batch = scheduler({
      admit: (job) => {
        if (job.id === "a") return { kind: "refuse", error };
        if (job.id === "b") throw error;
        return { kind: "admit" };
      },
    });
    for (const id of ["a", "b", "c"]) batch.submit(generate(id, 1));
    const { step, ended } = batch.plan();
    expect(ended).toEqual([
      { job: generate("a", 1), ending: { kind: "failed", error } },
      { job: generate("b", 1), ending: { kind: "failed", error } },
    ]);
    expect(step).toMatchObject({ kind: "prefill", slot: 0, job: { id: "c" } });
  });

  it("refuses to plan over a step in flight, to complete another one, or to miss an outcome", () => {
    const batch = scheduler();
    batch.submit(generate("a", 1));
    const first = chunk(batch);
    expect(() => batch.plan()).toThrow(/has not been completed/);
    complete(batch, first);
    expect(() => batch.completePrefill(first, GO_ON)).toThrow(/not in flight/);
    const step = decode(batch);
    expect(() => batch.completeDecode(step, [])).toThrow(/no outcome for job a in slot 0/);
    expect(endings(complete(batch, step, END))).toEqual(["a end"]);
  });

  it("says beforehand whom it would refuse, and why", () => {
    const batch = scheduler({ slots: 1, waiting: 2 });
    const said: string[] = [];
    for (const id of ["a", "b", "c", "d"]) {
      const before = batch.refusal("acme");
      expect(batch.submit(generate(id, 1))).toEqual(before ?? { kind: "queued" });
      said.push(before?.reason ?? "room");
    }
    // One slot, and of two places one is for others.
    expect(said).toEqual(["room", "room", "QUEUE_FULL", "QUEUE_FULL"]);
    expect(batch.refusal("globex")).toBeUndefined();
    batch.drain();
    expect(batch.refusal("globex")).toEqual({ kind: "refused", reason: "DRAINING" });
  });

  it("counts what runs and waits", () => {
    const batch = scheduler({ waiting: 3 });
    batch.submit(generate("a", 2));
    batch.submit(generate("b", 9));
    batch.submit(generate("c", 1));
    trace(batch, 3);
    expect(batch.figures()).toEqual({
      slots: 2,
      running: 2,
      prefilling: 1,
      decoding: 1,
      waiting: 1,
      preempted: 0,
      queueCapacity: 3,
      positions: 3 + 4,
    });
    expect(batch.slots.map((state) => state.kind)).toEqual(["decoding", "prefilling"]);
  });

  it("takes a slot from who had more than its share, and gives it back with what was in it", () => {
    const share = { weight: 1, maxRunning: 99, maxWaiting: 99, tokensPerMinute: Number.POSITIVE_INFINITY };
    const queue = new FairQueue<Job>({ capacity: 8, share: () => share, burst: 8, clock: () => 0 });
    const moves: string[] = [];
    const batch = scheduler({
      queue,
      swap: {
        out: ({ id }, slot, positions) => moves.push(`${id} out of ${slot} with ${positions}`) > 0,
        in: ({ id }, slot) => moves.push(`${id} into ${slot}`),
        drop: ({ id }) => moves.push(`${id} dropped`),
      },
    });
    const greedy = (id: string): Job => ({ id, tenant: "greedy", kind: "generate", tokens: 5, replyTokens: 9 });
    const polite = (id: string): Job => ({ id, tenant: "polite", kind: "generate", tokens: 2, replyTokens: 4 });
    for (const id of ["g1", "g2", "g3"]) batch.submit(greedy(id));
    expect(trace(batch, 6)).toEqual(["g1[0,3)", "g2[0,3)", "g1[3,5)!", "g1@5", "g2[3,5)!", "g1@6 g2@5"]);
    batch.submit(polite("p1"));
    // The one that was let in last gives way.
    expect(trace(batch, 2)).toEqual(["p1[0,2)!", "g1@7 p1@2"]);
    expect(moves).toEqual(["g2 out of 1 with 6"]);
    expect(batch.figures()).toMatchObject({ running: 2, waiting: 1, preempted: 1 });
    // What is left of the savings does not pay for another one: it waits for its turn, which is the next.
    batch.submit(polite("p2"));
    expect(trace(batch, 1)).toEqual(["g1@8 p1@3"]);
    expect(endings(batch.cancel("p1"))).toEqual(["p1 cancelled"]);
    expect(trace(batch, 2)).toEqual(["p2[0,2)!", "g1@9 p2@2"]);
    expect(endings(batch.cancel("p2"))).toEqual(["p2 cancelled"]);
    // Before the third one, and from the position where it was.
    expect(trace(batch, 1)).toEqual(["g1@10 g2@6"]);
    expect(moves).toEqual(["g2 out of 1 with 6", "g2 into 1"]);
    expect(endings(batch.cancel("g2"))).toEqual(["g2 cancelled"]);
    expect(shown(chunk(batch))).toBe("g3[0,3)");
  });

  it("keeps a slot at work where it would be given up for one that has to wait for something else", () => {
    const share = { weight: 1, maxRunning: 99, maxWaiting: 99, tokensPerMinute: Number.POSITIVE_INFINITY };
    const queue = new FairQueue<Job>({ capacity: 8, share: () => share, burst: 8, clock: () => 0 });
    const moves: string[] = [];
    let isFull = true;
    const batch = scheduler({
      queue,
      admit: ({ id }) => ({ kind: id === "p" && isFull ? "wait" : "admit" }),
      swap: {
        out: ({ id }) => moves.push(`${id} out`) > 0,
        in: ({ id }) => moves.push(`${id} in`),
        drop: ({ id }) => moves.push(`${id} dropped`),
      },
    });
    for (const id of ["g1", "g2"]) {
      batch.submit({ id, tenant: "greedy", kind: "generate", tokens: 2, replyTokens: 9 });
    }
    expect(trace(batch, 4)).toEqual(["g1[0,2)!", "g1@2", "g2[0,2)!", "g1@3 g2@2"]);
    batch.submit({ id: "p", tenant: "polite", kind: "generate", tokens: 2, replyTokens: 4 });
    expect(trace(batch, 2)).toEqual(["g1@4 g2@3", "g1@5 g2@4"]);
    // Tried once: streams do not wait for copies that help nobody.
    expect(moves).toEqual(["g2 out", "g2 in"]);
    expect(batch.figures()).toMatchObject({ running: 2, waiting: 1, preempted: 0 });
    expect(endings(batch.cancel("g1"))).toEqual(["g1 cancelled"]);
    // A slot that gets free by itself is the head's.
    expect(trace(batch, 1)).toEqual(["-@0 g2@5"]);
    isFull = false;
    expect(trace(batch, 2)).toEqual(["p[0,2)!", "p@2 g2@6"]);
  });

  it("goes back: positions of prompt and reply are prefilled again, in chunks by phase, and decoding goes on", () => {
    const batch = scheduler();
    batch.submit(generate("a", 3));
    batch.submit(generate("b", 1));
    trace(batch, 8);
    const step = decode(batch);
    expect(shown(step)).toBe("a@9 b@6");
    batch.completeDecode(step, [{ kind: "rewind", from: 1 }, GO_ON]);
    const chunks: string[] = [];
    for (let i = 0; i < 8; i++) {
      const { step: next } = batch.plan();
      if (next === undefined) throw new Error("nothing to run");
      if (next.kind === "prefill") {
        expect(next).toMatchObject({ isLast: false, repeats: true });
        chunks.push(`${shown(next)} ${next.phase}`);
      } else chunks.push(shown(next));
      complete(batch, next);
    }
    expect(chunks).toEqual([
      "a[1,3) prompt",
      "-@3 b@7",
      "a[3,5) generated",
      "-@5 b@8",
      "a[5,8) generated",
      "-@8 b@9",
      "a[8,10) generated",
      "a@10 b@10",
    ]);
  });

  it("goes back after the first token too, and not at all to where it stands", () => {
    const batch = scheduler();
    batch.submit(generate("a", 3));
    complete(batch, chunk(batch), { kind: "rewind", from: 2 });
    expect(trace(batch, 2)).toEqual(["a[2,3)", "a@3"]);
    complete(batch, decode(batch), { kind: "rewind", from: 5 });
    expect(trace(batch, 1)).toEqual(["a@5"]);
  });

  it.each([-1, 1.5, 99])("fails a job that goes back to %d", (from) => {
    const batch = scheduler();
    batch.submit(generate("a", 3));
    const [ended] = complete(batch, chunk(batch), { kind: "rewind", from });
    expect(ended?.ending).toMatchObject({ kind: "failed", error: expect.any(RangeError) });
    batch.submit(generate("b", 9));
    const [half] = complete(batch, chunk(batch), { kind: "rewind", from: 0 });
    expect(half?.ending).toMatchObject({ kind: "failed", error: expect.any(RangeError) });
    expect(batch.empty).toBe(true);
  });

  it("goes on behind chunks that were there already, and refuses a part that no chunks could have left", () => {
    const batch = scheduler();
    batch.submit(generate("a", 14));
    const first = chunk(batch);
    for (const end of [0, 3, 5, 16, Number.NaN]) expect(() => batch.completeFilled(first, end)).toThrow(RangeError);
    expect(batch.completeFilled(first, 8)).toEqual([]);
    expect(trace(batch, 1)).toEqual(["a[8,12)"]);
    const last = chunk(batch);
    expect(() => batch.completeFilled(last, 16)).toThrow(RangeError);
    complete(batch, last);
    batch.cancel("a");
    batch.submit(generate("b", 9));
    const step = chunk(batch);
    batch.cancel("b");
    expect(endings(batch.completeFilled(step, 4))).toEqual(["b cancelled"]);
  });

  describe("followers", () => {
    const follow = (id: string, available: number, tokens = 16) => {
      const follower = { available, closed: false };
      return { follower, job: { id, tenant: "acme", kind: "prefill", tokens, follower } satisfies Job };
    };

    it("prefill what is known, when no other prompt has a chunk, and end once they are told that no more comes", () => {
      const batch = scheduler({ slots: 3 });
      const { follower, job } = follow("f", 2);
      batch.submit(generate("a", 1));
      batch.submit(job);
      expect(trace(batch, 4)).toEqual(["a[0,1)!", "a@1", "f[0,2)", "a@2"]);
      batch.submit(generate("b", 8));
      follower.available = 7;
      expect(trace(batch, 8)).toEqual([
        "b[0,4)",
        "a@3",
        "b[4,8)!",
        "a@4 -@2 b@8",
        "f[2,4)",
        "a@5 -@4 b@9",
        "f[4,7)",
        "a@6 -@7 b@10",
      ]);
      expect(trace(batch, 1)).toEqual(["a@7 -@7 b@11"]);
      follower.closed = true;
      const { ended, step } = batch.plan();
      expect(ended).toEqual([{ job, ending: { kind: "finished", reason: "prefilled" }, slot: 1 }]);
      expect(shown(step as Step<Job>)).toBe("a@8 -@0 b@12");
    });

    it("end with the chunk of their last token where that is known before", () => {
      const batch = scheduler();
      const { follower, job } = follow("f", 3);
      follower.closed = true;
      batch.submit(job);
      const step = chunk(batch);
      expect(shown(step)).toBe("f[0,3)!");
      expect(endings(complete(batch, step))).toEqual(["f prefilled"]);
      const full = follow("g", 16);
      batch.submit(full.job);
      expect(trace(batch, 4)).toEqual(["g[0,4)", "g[4,8)", "g[8,12)", "g[12,16)!"]);
      expect(batch.empty).toBe(true);
    });

    it("get a slot at once or never, and lose it to whoever waits", () => {
      const batch = scheduler();
      batch.submit(generate("a", 1));
      const { job } = follow("f", 1);
      batch.submit(job);
      trace(batch, 3);
      batch.submit(follow("late", 1).job);
      expect(batch.figures().waiting).toBe(0);
      let plan = batch.plan();
      expect(endings(plan.ended)).toEqual(["late displaced"]);
      complete(batch, plan.step as Step<Job>);
      batch.submit(generate("b", 1));
      plan = batch.plan();
      expect(plan.ended).toEqual([{ job, ending: { kind: "displaced" }, slot: 1 }]);
      expect(shown(plan.step as Step<Job>)).toBe("b[0,1)!");
    });

    it("give way to a head that waits for what they may hold", () => {
      const held = new Set<string>();
      const batch = scheduler({
        admit: ({ id }) => {
          if (held.size > 0) return { kind: "wait" };
          held.add(id);
          return { kind: "admit" };
        },
      });
      batch.submit(follow("f", 1).job);
      trace(batch, 1);
      batch.submit(generate("a", 1));
      const { step, ended } = batch.plan();
      expect(step).toBeUndefined();
      expect(endings(ended)).toEqual(["f displaced"]);
      held.delete("f");
      expect(trace(batch, 1)).toEqual(["a[0,1)!"]);
    });

    it("can be cancelled and drained before they have a slot, and write nothing themselves", () => {
      const batch = scheduler();
      batch.submit(follow("f", 1).job);
      expect(endings(batch.cancel("f"))).toEqual(["f cancelled"]);
      batch.submit(follow("g", 1).job);
      expect(() => batch.submit(follow("g", 1).job)).toThrow(/here already/);
      expect(endings(batch.drain())).toEqual(["g drained"]);
      expect(batch.empty).toBe(true);
      expect(() => batch.submit({ ...follow("h", 1).job, kind: "generate" } as Job)).toThrow(/writes nothing itself/);
    });
  });

  it("refuses options that make no batch", () => {
    expect(() => scheduler({ slots: 0 })).toThrow(/slots/);
    expect(() => scheduler({ chunkTokens: 1.5 })).toThrow(/chunkTokens/);
    expect(() => scheduler({ waiting: 0 })).toThrow(/queue capacity/);
  });
});
