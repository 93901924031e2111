import type { Precision } from "../graph/index.ts";
import type { ModelRuntime } from "../runtime/index.ts";
import { CheckFailure, type Figures } from "./check.ts";
import { toleranceOf } from "./forward-checks.ts";
import { isSame, maxDifference, Probe, spreadOf } from "./probe.ts";
import { checkDelta, checkGainZero, checkRenorm, residualAt, SteeringBaseline, sampleOf } from "./steering-checks.ts";

/** How far the last layer is moved to predict logits, as a multiple of its row: as an alpha of 0.4 would. */
const GAIN = 4;

/** How far the change of the logits must stand out from what is not as predicted about it. */
const ERRORS_PER_CHANGE = 10;

/** What a worker has shown before it serves. */
export interface SteeringSelfTest {
  /** That were steered: fewer than three where the model or the table has no more. */
  readonly layers: readonly number[];
  readonly figures: Figures;
  readonly millis: number;
}

/**
 * Show on a runtime that is about to serve that steering acts as the contract says: a row of its table moves the residual
 * and the logits by what can be computed beforehand, gain 0 changes no bit, neither does a steered row the one beside it.
 * A part of `verifyPackage`, on the very sessions, table and cache that serve.
 *
 * Writes the first positions of the first slots, and the first rows of the table, which are all zeros afterwards: for before
 * the first request. About 20 runs of a few tokens.
 *
 * @param table - float32[rows, hidden], the runtime's; at least two rows
 * @returns undefined where the table has no row for a persona: nothing can be steered
 * @throws CheckFailure for what is not so
 */
export async function steeringSelfTest(
  runtime: ModelRuntime,
  table: Float32Array,
  precision: Precision,
): Promise<SteeringSelfTest | undefined> {
  const begun = performance.now();
  const { hidden, layers } = runtime.spec;
  const rows = table.length / hidden - 1;
  if (rows < 1) return undefined;
  const every = Array.from({ length: layers }, (_, layer) => layer);
  // The last layer comes first: nothing but the final norm and the head stands between it and the logits.
  const tried = sampleOf(every).toReversed().slice(0, rows).toReversed();
  const probe = new Probe(runtime, table, tried);
  try {
    const baseline = await SteeringBaseline.measure(probe);
    const delta = await checkDelta(baseline, ignore);
    await checkGainZero(baseline, ignore);
    await checkRenorm(baseline, ignore);
    const logits = await checkPredictedLogits(baseline, precision);
    await checkNeighbour(baseline);
    return { layers: tried, figures: { ...delta.figures, ...logits }, millis: performance.now() - begun };
  } finally {
    table.fill(0, hidden, (tried.length + 1) * hidden);
  }
}

const ignore = () => {};

/**
 * The logits after a row at the last layer, from the residual alone: the final norm divides by the root mean square, and its
 * weights are the quotients that an unsteered run shows.
 */
async function checkPredictedLogits(baseline: SteeringBaseline, precision: Precision): Promise<Figures> {
  const { probe, unsteered, tokens } = baseline;
  const layer = probe.layers - 1;
  const last = tokens.length - 1;
  const residual = residualAt(probe, unsteered, last, layer);
  const row = probe.row(layer);
  const moved = residual.map((value, i) => value + GAIN * (row[i] as number));
  const scale = rootMeanSquare(moved, probe.runtime.spec.normEps);
  const weights = normWeights(baseline);
  const expected = await probe.logits(moved.map((value, i) => ((weights[i] as number) * value) / scale));

  const steered = await baseline.steered([layer], GAIN, false, false);
  const found = await probe.logits(stateAt(probe, steered.hidden, last));
  const before = await probe.logits(stateAt(probe, baseline.served.hidden, last));
  const spread = spreadOf(before) || 1;
  const change = maxDifference(found, before) / spread;
  const error = maxDifference(found, expected) / spread;
  const figures = { layer, logitChange: change, logitError: error };
  if (!(error <= toleranceOf(precision))) {
    throw new CheckFailure(
      `a row at layer ${layer} must change the logits by up to ${(maxDifference(expected, before) / spread).toPrecision(3)} ` +
        `of their spread; they are ${error.toPrecision(3)} away from that`,
      figures,
    );
  }
  if (!(change >= ERRORS_PER_CHANGE * error)) {
    throw new CheckFailure(
      `a row at layer ${layer} changes the logits by ${change.toPrecision(3)} of their spread, which is too little to tell ` +
        `from the ${error.toPrecision(3)} by which they are not as predicted`,
      figures,
    );
  }
  return { logitChange: change, logitError: error };
}

/** Weights of the final norm, float32[hidden]: each from the position where its element of the residual is largest. */
function normWeights({ probe, unsteered, positions }: SteeringBaseline): Float32Array {
  const layer = probe.layers - 1;
  const states = positions.map((position) => {
    const residual = residualAt(probe, unsteered, position, layer);
    const state = stateAt(probe, unsteered.hidden, position);
    return { residual, state, scale: rootMeanSquare(residual, probe.runtime.spec.normEps) };
  });
  return Float32Array.from({ length: probe.hidden }, (_, i) => {
    const size = (at: (typeof states)[number]) => Math.abs(at.residual[i] as number);
    const { residual, state, scale } = states.reduce((a, b) => (size(b) > size(a) ? b : a));
    return residual[i] === 0 ? 0 : ((state[i] as number) * scale) / (residual[i] as number);
  });
}

function rootMeanSquare(values: Float32Array, epsilon: number): number {
  let squares = 0;
  for (const value of values) squares += value * value;
  return Math.sqrt(squares / values.length + epsilon);
}

/** An unsteered row of a decode step has the same bits beside a steered row and beside one that is not. */
async function checkNeighbour({ probe, tokens }: SteeringBaseline): Promise<void> {
  const slots = Math.min(2, probe.runtime.slots);
  const position = tokens.length - 1;
  for (let slot = 0; slot < slots; slot++) {
    await probe.chunk(slot, tokens, [0, position], probe.unsteered(), false);
  }
  const step = (steering: ReturnType<Probe["steeredAt"]>) => {
    const row = { token: tokens[position] as number, position };
    const rows = [
      { ...row, steering: probe.unsteered() },
      { ...row, steering },
    ];
    return probe.step(rows.slice(2 - slots));
  };
  const alike = await step(probe.unsteered());
  const mixed = await step(probe.steeredAt(probe.steerable));
  const other = slots - 1;
  if (isSame(stateAt(probe, mixed, other), stateAt(probe, alike, other))) {
    throw new CheckFailure("a decode step does not steer");
  }
  if (other === 0 || isSame(stateAt(probe, mixed, 0), stateAt(probe, alike, 0))) return;
  throw new CheckFailure("a steered row changes the unsteered one beside it");
}

/** A view of one hidden state, float32[hidden]. */
function stateAt({ hidden }: Probe, states: Float32Array, position: number): Float32Array {
  return states.subarray(position * hidden, (position + 1) * hidden);
}
