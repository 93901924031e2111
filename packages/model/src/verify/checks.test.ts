import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { FLOAT32, precisionOf } from "../graph/index.ts";
import { ModelRuntime } from "../runtime/index.ts";
import { type ReferenceModel, referenceModel } from "../testing/reference-model.ts";
import { CheckList } from "./check.ts";
import { checkBatch, checkChunks, checkLogits } from "./forward-checks.ts";
import { PROBE_SLOTS, Probe, type ProbeResult, type ProbeSteering } from "./probe.ts";
import { checkDelta, checkGainZero, checkProjections, checkRenorm, SteeringBaseline } from "./steering-checks.ts";

// Each check over a real model whose results are changed on their way: what it says of a model that computes so.

let reference: ReferenceModel;
let runtime: ModelRuntime;
let table: Float32Array;

beforeAll(async () => {
  reference = await referenceModel("plain-tied");
  const { layers, hidden } = reference.model.spec;
  table = new Float32Array((layers + 1) * hidden);
  runtime = await ModelRuntime.open(reference.model, { slots: PROBE_SLOTS, contextTokens: 32, table, threads: 1 });
});
afterAll(async () => {
  runtime[Symbol.dispose]();
  await reference[Symbol.asyncDispose]();
});

interface Call {
  readonly slot: number;
  readonly steering: ProbeSteering;
  readonly residuals: boolean;
}

/** Tells something else than what the model computed. */
class LyingProbe extends Probe {
  onChunk: (result: ProbeResult, call: Call) => void = () => {};
  onStep: (hidden: Float32Array) => void = () => {};
  onLogits: (logits: Float32Array) => void = () => {};

  override async chunk(...args: Parameters<Probe["chunk"]>): Promise<ProbeResult> {
    const [slot, , , steering, residuals] = args;
    const result = await super.chunk(...args);
    this.onChunk(result, { slot, steering, residuals });
    return result;
  }

  override async step(...args: Parameters<Probe["step"]>): Promise<Float32Array> {
    const hidden = await super.step(...args);
    this.onStep(hidden);
    return hidden;
  }

  override async logits(...args: Parameters<Probe["logits"]>): Promise<Float32Array> {
    const logits = await super.logits(...args);
    this.onLogits(logits);
    return logits;
  }
}

const lying = (lie: Partial<Pick<LyingProbe, "onChunk" | "onStep" | "onLogits">> = {}): LyingProbe =>
  Object.assign(new LyingProbe(runtime, table), lie);

const ignore = () => {};

/** A baseline that is true, and steered runs that are not. */
async function lyingBaseline(onChunk: LyingProbe["onChunk"]): Promise<SteeringBaseline> {
  const probe = lying();
  const baseline = await SteeringBaseline.measure(probe);
  probe.onChunk = onChunk;
  return baseline;
}

const STEERING = {
  delta: (baseline: SteeringBaseline) => checkDelta(baseline, ignore),
  projections: (baseline: SteeringBaseline) => checkProjections(baseline, ignore),
  gainZero: (baseline: SteeringBaseline) => checkGainZero(baseline, ignore),
  renorm: (baseline: SteeringBaseline) => checkRenorm(baseline, ignore),
};

/** Change one value by a share of itself. */
function nudge(values: Float32Array, at: number, share: number): void {
  values[at] = (values[at] as number) * (1 + share);
}

function nudgeAll(values: Float32Array, share: number): void {
  for (const at of values.keys()) nudge(values, at, share);
}

describe("a model that tells the truth", () => {
  it("passes all of them", async () => {
    const probe = lying();
    await checkLogits(probe, 0, ignore);
    await checkChunks(probe, FLOAT32, ignore);
    const baseline = await SteeringBaseline.measure(probe);
    await checkBatch(probe, FLOAT32, ignore);
    for (const check of Object.values(STEERING)) await check(baseline);
  });
});

describe("steering is caught", () => {
  it.each<[string, keyof typeof STEERING, LyingProbe["onChunk"], RegExp]>([
    [
      "a delta that is a thousandth off",
      "delta",
      (r, c) => c.residuals && nudge(r.residuals, 0, 1e-3),
      /must move element/,
    ],
    ["a delta that is NaN", "delta", (r, c) => c.residuals && r.residuals.fill(Number.NaN, 0, 1), /must move element/],
    [
      "a layer that is moved before the one that is steered",
      "delta",
      ({ residuals }, { steering }) => steering.rows[0] === 0 && nudge(residuals, 0, 1e-7),
      /changes the residual of layer 0, before it/,
    ],
    [
      "a serving graph that steers otherwise than the other",
      "delta",
      ({ hidden }, { residuals }) => !residuals && nudge(hidden, 0, 0.1),
      /"body" and "body-capture" give hidden states .* apart/,
    ],
    [
      "projections of a steered residual",
      "projections",
      ({ projections }) => nudge(projections, 0, 0.1),
      /projection on the row/,
    ],
    [
      "projections where no row is",
      "projections",
      ({ projections }, { steering }) => steering.rows[0] === 0 && projections.fill(1e-9, 0, 1),
      /projections at other layers/,
    ],
    [
      "a gain of 0 that is not nothing",
      "gainZero",
      ({ residuals }) => nudge(residuals, 1, 1e-6),
      /"body-capture" differs/,
    ],
    [
      "the same in the serving graph, only when it rescales",
      "gainZero",
      ({ hidden }, { residuals, steering }) => !residuals && steering.renorm && nudge(hidden, 1, 1e-6),
      /"body-renorm" differs from unsteered when it rescales/,
    ],
    [
      "a rescaling graph that steers otherwise than the other",
      "renorm",
      ({ hidden }, { residuals }) => !residuals && nudge(hidden, 0, 0.1),
      /"body-renorm" and "body-capture" give hidden states .* apart/,
    ],
    ["a norm that grows", "renorm", ({ residuals }) => nudgeAll(residuals, 1e-4), /must keep its norm/],
  ])("by %s", async (_, check, lie, message) => {
    const baseline = await lyingBaseline(lie);
    await expect(STEERING[check](baseline)).rejects.toThrow(message);
  });
});

describe("the forward pass is caught", () => {
  it("by a logit that is no number, and by logits that are all alike", async () => {
    const infinite = lying({ onLogits: (logits) => logits.fill(Number.POSITIVE_INFINITY, 7, 8) });
    await expect(checkLogits(infinite, 0, ignore)).rejects.toThrow("the logit of token 7 at position 0 is Infinity");
    const flat = lying({ onLogits: (logits) => logits.fill(3) });
    await expect(checkLogits(flat, 0, ignore)).rejects.toThrow("all tokens have the same logit");
  });

  it("by chunks that are read otherwise; rounded products may differ a little more", async () => {
    const off = (share: number) => lying({ onChunk: ({ hidden }, { slot }) => slot === 1 && nudgeAll(hidden, share) });
    await expect(checkChunks(off(0.01), FLOAT32, ignore)).rejects.toThrow(/away from those of one go/);
    await checkChunks(off(0.01), precisionOf("int8"), ignore);
    await expect(checkChunks(off(0.5), precisionOf("int8"), ignore)).rejects.toThrow(/away from those of one go/);
  });

  it("by a row that changes in company, by its place and the batch's size, with what helps", async () => {
    await SteeringBaseline.measure(lying());
    const { hidden } = reference.model.spec;
    const onStep = (states: Float32Array) => states.length === 3 * hidden && nudge(states, 2 * hidden, 1e-6);
    const probe = lying({ onStep });
    await expect(checkBatch(probe, FLOAT32, ignore)).rejects.toThrow(
      /^row 2 of a batch of 3 is unsteered, and .* alone$/,
    );
    await expect(checkBatch(probe, precisionOf("int8", { block: 128 }), ignore)).rejects.toThrow(/with blocks of 32$/);
    const heads = lying({ onLogits: (logits) => logits.length > runtime.spec.vocabulary && nudge(logits, 0, 1e-6) });
    await expect(checkBatch(heads, FLOAT32, ignore)).rejects.toThrow("the logits of row 0 of a batch of 2 are others");
  });

  it("by steered rows that are as they are unsteered", async () => {
    table.fill(0);
    await expect(checkBatch(lying(), FLOAT32, ignore)).rejects.toThrow("is steered, and as it is unsteered");
  });

  it("on a context that has no two chunks, that one check is skipped and the others run", async () => {
    using short = await ModelRuntime.open(reference.model, { slots: PROBE_SLOTS, contextTokens: 2, table, threads: 1 });
    const probe = new Probe(short, table);
    const checks = new CheckList({});
    await checks.run("prefill-chunks", (progress) => checkChunks(probe, FLOAT32, progress));
    const baseline = await SteeringBaseline.measure(probe);
    await checks.run("batch-independence", (progress) => checkBatch(probe, FLOAT32, progress));
    await checks.run("steering-delta", (progress) => checkDelta(baseline, progress));
    expect(checks.results.map(({ outcome }) => outcome)).toEqual(["skipped", "passed", "passed"]);
  });
});
