import { ServiceError } from "@persona-mesh/service";
import { DEFAULT_GUARD_POLICY, type GuardEvent, type GuardPolicy } from "@persona-mesh/steering";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import type { EngineJob } from "../engine/engine-job.ts";
import { WornPersona } from "../engine/worn-persona.ts";
import type { LoadedPersona } from "../personas/loaded-persona.ts";
import { SteeringTable } from "../table/index.ts";
import { personaOf, rowAlong } from "../testing/personas.ts";
import { ServedBaseline } from "./served-baseline.ts";
import { TwinJob } from "./twin-job.ts";
import { type WatchRequest, watchReply } from "./watch-reply.ts";

// The wiring of guard, twin and engine: what a job hears of it.

const ONE = personaOf("one", new Map([[0, rowAlong(2, 1)]]));
const table = () => new SteeringTable({ rows: 5, hidden: 2, layers: 1 });

interface Scene {
  readonly policy?: Partial<GuardPolicy>;
  readonly request?: Partial<WatchRequest>;
  readonly steered?: boolean;
  readonly persona?: LoadedPersona;
  readonly refusal?: Error;
}

function watched({ policy = {}, request = {}, steered = true, persona = ONE, refusal }: Scene = {}) {
  const worn = new WornPersona(table(), { current: () => (steered ? persona : undefined), follow: false, gain: 1 });
  worn.admit();
  const submitted: EngineJob[] = [];
  const cancelled: string[] = [];
  const events: GuardEvent[] = [];
  const engine = {
    submit: (job: EngineJob) => {
      if (refusal !== undefined) throw refusal;
      submitted.push(job);
    },
    cancel: (id: string) => {
      cancelled.push(id);
    },
  };
  const watch = watchReply(
    { engine, table: table(), baseline: new ServedBaseline(undefined) },
    {
      id: "job",
      tenant: "acme",
      prompt: [1, 2, 3],
      worn,
      temperature: 1,
      maxTokens: 100,
      policy: { ...DEFAULT_GUARD_POLICY, windowTokens: 8, twinShareBasisPoints: 0, ...policy },
      request: { observeOnly: false, twin: undefined, twinActs: false, ...request },
    },
    (event) => events.push(event),
  );
  watch.begin();
  /** A loop of one word. */
  const loop = (tokens: number) => {
    for (let i = 0; i < tokens; i++) watch.take({ id: 7, hidden: new Float32Array(2), entropy: 1 });
  };
  return { watch, worn, submitted, cancelled, events, loop };
}

const MEASURES = { tokens: 8, entropy: 1, surprisal: 1, gap: 0, repetition: 1 };

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

test("an event is told, lowers what is worn, and is in the report", () => {
  const { watch, worn, events, loop } = watched();
  loop(8);
  expect(events).toMatchObject([{ cause: "REPETITION", alphaAfterHundredths: 40 }]);
  expect(worn.alphaHundredths).toBe(40);
  const report = watch.report(MEASURES);
  expect(report).toMatchObject({ events: [{ ...events[0], at: expect.any(Number) }], twin: undefined });
  expect(report.alphas).toEqual([
    { fromToken: 0, alphaHundredths: 50 },
    { fromToken: 8, alphaHundredths: 40 },
  ]);
  expect(watch.finish()).toBeUndefined();
});

test("keys and values are computed anew once after each change, by policy", () => {
  for (const cache of ["KEEP", "REPREFILL"] as const) {
    const { watch, loop } = watched({ policy: { cache } });
    loop(7);
    expect(watch.takeRefill()).toBe(false);
    loop(1);
    expect([watch.takeRefill(), watch.takeRefill()]).toEqual([cache === "REPREFILL", false]);
    loop(8);
    expect(watch.takeRefill()).toBe(cache === "REPREFILL");
  }
  // What only observes changes nothing.
  const { watch, loop } = watched({ policy: { cache: "REPREFILL" }, request: { observeOnly: true } });
  loop(8);
  expect(watch.takeRefill()).toBe(false);
});

test("every so many tokens they are computed anew, whether or not the guard may act, and never without a persona", () => {
  const refills = (scene: Scene) => {
    const { watch } = watched({ ...scene, policy: { refillTokens: 16, windowTokens: 8, ...scene.policy } });
    const due: number[] = [];
    for (let id = 1; id <= 50; id++) {
      watch.take({ id, hidden: new Float32Array(2), entropy: 1 });
      if (watch.takeRefill()) due.push(id);
    }
    return due;
  };
  expect(refills({})).toEqual([16, 32, 48]);
  expect(refills({ policy: { observeOnly: true } })).toEqual([16, 32, 48]);
  expect(refills({ policy: DEFAULT_GUARD_POLICY })).toEqual([]);
  expect(refills({ steered: false })).toEqual([]);
  // What it wears has acted on the prompt alone: there is nothing of it in the reply.
  expect(refills({ persona: { ...ONE, positions: "PROMPT" } })).toEqual([]);
});

test("after an event they are computed anew until nothing of what was written before is left", () => {
  for (const [cache, stepHundredths, expected] of [
    ["REPREFILL", 20, [8, 24, 40, 56]],
    ["KEEP", 20, [16, 32, 48]],
    // The event takes all there is.
    ["REPREFILL", 50, [8]],
    ["KEEP", 50, [16]],
  ] as const) {
    const { watch, loop } = watched({ policy: { cache, stepHundredths, refillTokens: 16 } });
    const due: number[] = [];
    for (let token = 1; token <= 60; token++) {
      if (token <= 8) loop(1);
      else watch.take({ id: token, hidden: new Float32Array(2), entropy: 1 });
      if (watch.takeRefill()) due.push(token);
    }
    expect([cache, stepHundredths, due]).toEqual([cache, stepHundredths, expected]);
  }
});

test("a twin is there by the policy's share or by request, and never beside an unsteered reply", () => {
  const has = (scene: Scene) => watched(scene).submitted.length === 1;
  expect(has({})).toBe(false);
  expect(has({ policy: { twinShareBasisPoints: 10_000 } })).toBe(true);
  expect(has({ policy: { twinShareBasisPoints: 10_000 }, request: { twin: false } })).toBe(false);
  expect(has({ request: { twin: true } })).toBe(true);
  expect(has({ request: { twin: true }, steered: false })).toBe(false);
});

test("the twin reads what the reply says, and its divergence acts where it is asked to", async () => {
  for (const twinActs of [false, true]) {
    const { submitted, events, watch, worn } = watched({ request: { twin: true, twinActs } });
    const [twin] = submitted;
    if (!(twin instanceof TwinJob)) throw new Error("no twin was submitted");
    for (let i = 0; i < 8; i++) watch.take({ id: i, hidden: Float32Array.of(i, 0), entropy: 1 });
    expect([...twin.prompt.subarray(0, 11)]).toEqual([1, 2, 3, 0, 1, 2, 3, 4, 5, 6, 7]);
    const heads = {
      divergence: async () => new Float32Array(8).fill(3),
      score: async () => ({ entropies: new Float32Array(8).fill(0.5), logProbs: new Float32Array(8) }),
    };
    const step = { start: 2, end: 10, isLast: false };
    await twin.read({ step, batch: { hidden: new Float32Array(16) } } as never, heads as never);
    expect(events.map(({ cause, kl }) => [cause, kl])).toEqual(twinActs ? [["DIVERGENCE", 3]] : []);
    expect(worn.alphaHundredths).toBe(twinActs ? 40 : 50);
    expect(watch.report({ ...MEASURES, repetition: 0 }).twin).toEqual({
      tokens: 8,
      meanKl: 3,
      maxKl: 3,
      meanEntropyDifference: 0.5,
    });
  }
});

test("the end waits for the twin, and not for ever", async () => {
  const { watch, submitted, cancelled } = watched({ request: { twin: true } });
  const finished = vi.fn();
  void watch.finish()?.then(finished);
  await vi.advanceTimersByTimeAsync(499);
  expect(finished).not.toHaveBeenCalled();
  await vi.advanceTimersByTimeAsync(1);
  expect(finished).toHaveBeenCalled();
  expect(cancelled).toEqual([submitted[0]?.id]);

  const quick = watched({ request: { twin: true } });
  const soon = quick.watch.finish();
  quick.submitted[0]?.ended({ kind: "finished", reason: "prefilled" });
  await soon;
  expect(quick.cancelled).toEqual([]);
});

test("a worker that takes no more jobs has no twins, and nothing waits for one", async () => {
  const { watch } = watched({ request: { twin: true }, refusal: new ServiceError("DRAINING", "no more") });
  await watch.finish();
});

test("a twin goes with a reply that nobody wants any more", () => {
  const { watch, submitted, cancelled } = watched({ request: { twin: true } });
  watch.abandon();
  expect(cancelled).toEqual([submitted[0]?.id]);
});
