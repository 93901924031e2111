import { CheckFailure, type CheckProgress, type Finding } from "./check.ts";
import { isSame, maxDifference, type Probe, type ProbeResult } from "./probe.ts";
import { drawRow, norm } from "./pseudo-random.ts";

/** Positions of each run; the first of a sequence, whose residual is of another size, is among them. */
const TOKENS = 4;

const SEED = 11;

/** Length of the rows, as a share of the residual's norm where they act: an everyday alpha. */
const ALPHA = 0.1;

/** A sum of float32 may be rounded otherwise in its last bits, by kernels that fuse it with a product. */
const SUM_TOLERANCE = 4 * 2 ** -23;

/** Of a projection, over the norms of its two sides: float32 sums over the whole width. */
const PROJECTION_TOLERANCE = 1e-5;

/** Of a norm that must stay, relative. */
const NORM_TOLERANCE = 1e-5;

/**
 * Between the graph that serves and the one that gives out residuals, relative to the largest hidden value: the runtime
 * fuses them differently.
 */
const GRAPHS_TOLERANCE = 1e-4;

/** The unsteered run that every steered one is compared with; sets the table's rows to {@link ALPHA}. */
export class SteeringBaseline {
  readonly probe: Probe;
  readonly tokens: readonly number[];
  readonly unsteered: ProbeResult;
  /** As the serving graph has it. */
  readonly served: ProbeResult;

  private constructor(probe: Probe, tokens: readonly number[], unsteered: ProbeResult, served: ProbeResult) {
    this.probe = probe;
    this.tokens = tokens;
    this.unsteered = unsteered;
    this.served = served;
  }

  static async measure(probe: Probe): Promise<SteeringBaseline> {
    const tokens = probe.tokens(SEED, TOKENS);
    const all = [0, tokens.length] as const;
    const unsteered = await probe.chunk(0, tokens, all, probe.unsteered(), true);
    const served = await probe.chunk(0, tokens, all, probe.unsteered(), false);
    for (const layer of probe.steerable) {
      const length = ALPHA * norm(residualAt(probe, unsteered, tokens.length - 1, layer));
      probe.setRow(layer, drawRow(SEED + layer, probe.hidden, length));
    }
    return new SteeringBaseline(probe, tokens, unsteered, served);
  }

  /** Run the same tokens steered. */
  async steered(layers: readonly number[], gain = 1, renorm = false, residuals = true): Promise<ProbeResult> {
    const steering = this.probe.steeredAt(layers, gain, renorm);
    return this.probe.chunk(0, this.tokens, [0, this.tokens.length], steering, residuals);
  }

  get positions(): readonly number[] {
    return this.tokens.map((_, position) => position);
  }
}

/**
 * A row changes the residual after its layer by gain · row and nothing before it, layer by layer; and the graph that
 * serves does what the one with residuals does.
 */
export async function checkDelta(baseline: SteeringBaseline, progress: CheckProgress): Promise<Finding> {
  const { probe, unsteered } = baseline;
  const gain = 0.75;
  let worst = 0;
  for (const [index, layer] of probe.steerable.entries()) {
    const steered = await baseline.steered([layer], gain);
    const row = probe.row(layer);
    for (const position of baseline.positions) {
      for (let before = 0; before < layer; before++) {
        if (isSame(residualAt(probe, steered, position, before), residualAt(probe, unsteered, position, before)))
          continue;
        throw new CheckFailure(`steering layer ${layer} changes the residual of layer ${before}, before it`, { layer });
      }
      const from = residualAt(probe, unsteered, position, layer);
      const to = residualAt(probe, steered, position, layer);
      for (let i = 0; i < row.length; i++) {
        const delta = gain * (row[i] as number);
        const error = Math.abs((to[i] as number) - ((from[i] as number) + delta));
        const relative = error / (Math.abs(from[i] as number) + Math.abs(delta) || 1);
        if (relative <= SUM_TOLERANCE) {
          worst = Math.max(worst, relative);
          continue;
        }
        throw new CheckFailure(
          `a row of norm ${norm(row).toPrecision(3)} at layer ${layer} must move element ${i} of the residual by ` +
            `${delta.toPrecision(4)}; it moved by ${((to[i] as number) - (from[i] as number)).toPrecision(4)}`,
          { layer, position, relativeError: relative },
        );
      }
    }
    progress(index + 1, probe.steerable.length);
  }
  const { apart, moved } = await checkServing(baseline, false);
  const layers = probe.steerable.length;
  const figures = { layers, largestRelativeError: worst, betweenGraphs: apart, moved };
  return { message: `as predicted in each of ${layers} layers, within ${worst.toPrecision(2)}`, figures };
}

/**
 * Steered in every layer that is tried, the graph that serves gives what the one with residuals gives, and not what it gives unsteered.
 *
 * @returns how far apart they are, over the largest hidden value
 */
async function checkServing(
  baseline: SteeringBaseline,
  renorm: boolean,
): Promise<{ readonly apart: number; readonly moved: number }> {
  const { probe, served } = baseline;
  const capturing = await baseline.steered(probe.steerable, 1, renorm);
  const serving = await baseline.steered(probe.steerable, 1, renorm, false);
  const scale = maxDifference(capturing.hidden, new Float32Array(capturing.hidden.length));
  const apart = maxDifference(serving.hidden, capturing.hidden) / scale;
  const moved = maxDifference(serving.hidden, served.hidden) / scale;
  const graph = servingGraph(renorm);
  if (!(apart <= GRAPHS_TOLERANCE)) {
    throw new CheckFailure(`steered, "${graph}" and "body-capture" give hidden states ${apart.toPrecision(3)} apart`, {
      betweenGraphs: apart,
      moved,
    });
  }
  if (!(moved > GRAPHS_TOLERANCE)) {
    throw new CheckFailure(`steering does not change what "${graph}" gives`, { betweenGraphs: apart, moved });
  }
  return { apart, moved };
}

function servingGraph(renorm: boolean): "body" | "body-renorm" {
  return renorm ? "body-renorm" : "body";
}

/** Projections are ⟨h, row⟩ before the injection, whatever the gain, and exactly 0 where no row is. */
export async function checkProjections(baseline: SteeringBaseline, progress: CheckProgress): Promise<Finding> {
  const { probe, unsteered } = baseline;
  let worst = 0;
  let done = 0;
  for (const layer of sampleOf(probe.steerable)) {
    for (const [gain, residuals] of [
      [1, true],
      [0, true],
      [1, false],
    ] as const) {
      const { projections } = await baseline.steered([layer], gain, false, residuals);
      if (projections.length !== baseline.tokens.length * probe.layers) {
        throw new CheckFailure(`the graph "${residuals ? "body-capture" : "body"}" gives no projections`);
      }
      for (const position of baseline.positions) {
        const h = residualAt(probe, unsteered, position, layer);
        const expected = dot(h, probe.row(layer));
        const measured = projections[position * probe.layers + layer] as number;
        const error = Math.abs(measured - expected) / (norm(h) * norm(probe.row(layer)));
        if (!(error <= PROJECTION_TOLERANCE)) {
          throw new CheckFailure(
            `at layer ${layer} the projection on the row is ${expected.toPrecision(5)}; ${measured.toPrecision(5)} is given`,
            { layer, position, relativeError: error },
          );
        }
        worst = Math.max(worst, error);
        const others = projections.subarray(position * probe.layers, (position + 1) * probe.layers);
        if (others.some((value, other) => other !== layer && value !== 0)) {
          throw new CheckFailure(`steering layer ${layer} alone gives projections at other layers`, { layer });
        }
      }
    }
    progress(++done, sampleOf(probe.steerable).length);
  }
  return { message: `as ⟨residual, row⟩, within ${worst.toPrecision(2)}`, figures: { largestRelativeError: worst } };
}

/** A persona at gain 0 is no persona: every number is the same, with and without the rescaling of ADD_RENORM. */
export async function checkGainZero(baseline: SteeringBaseline, progress: CheckProgress): Promise<Finding> {
  const { probe, unsteered, served } = baseline;
  let done = 0;
  for (const renorm of [false, true]) {
    for (const residuals of [true, false]) {
      const result = await baseline.steered(probe.steerable, 0, renorm, residuals);
      const same = residuals
        ? isSame(result.residuals, unsteered.residuals) && isSame(result.hidden, unsteered.hidden)
        : isSame(result.hidden, served.hidden);
      if (!same) {
        const graph = residuals ? "body-capture" : servingGraph(renorm);
        throw new CheckFailure(`at gain 0 "${graph}" differs from unsteered${renorm ? " when it rescales" : ""}`);
      }
      progress(++done, 4);
    }
  }
  return { message: "the same as unsteered, to the bit" };
}

/** ADD_RENORM: the moved residual, with the norm that it had; in the graph that serves it too. */
export async function checkRenorm(baseline: SteeringBaseline, progress: CheckProgress): Promise<Finding> {
  const { probe, unsteered } = baseline;
  let worst = 0;
  const layers = sampleOf(probe.steerable);
  for (const [index, layer] of layers.entries()) {
    const steered = await baseline.steered([layer], 1, true);
    const row = probe.row(layer);
    for (const position of baseline.positions) {
      const from = residualAt(probe, unsteered, position, layer);
      const moved = from.map((value, i) => value + (row[i] as number));
      const ratio = norm(from) / norm(moved);
      const expected = moved.map((value) => value * ratio);
      const found = residualAt(probe, steered, position, layer);
      const error = maxDifference(found, expected) / norm(from);
      const drift = Math.abs(norm(found) / norm(from) - 1);
      if (!(error <= NORM_TOLERANCE && drift <= NORM_TOLERANCE)) {
        throw new CheckFailure(
          `rescaled, the residual of layer ${layer} must keep its norm ${norm(from).toPrecision(5)}; ` +
            `it has ${norm(found).toPrecision(5)}`,
          { layer, position, relativeError: Math.max(error, drift) },
        );
      }
      worst = Math.max(worst, error, drift);
    }
    progress(index + 1, layers.length);
  }
  const { apart } = await checkServing(baseline, true);
  return {
    message: `norms stay, within ${worst.toPrecision(2)}`,
    figures: { largestRelativeError: worst, betweenGraphs: apart },
  };
}

/** First, middle and last layer: what one graph does in all layers alike need not be measured in each. */
export function sampleOf(layers: readonly number[]): number[] {
  return layers.filter((_, index) => [0, layers.length >> 1, layers.length - 1].includes(index));
}

/** A view of one residual, float32[hidden]. */
export function residualAt(
  { layers, hidden }: Probe,
  { residuals }: ProbeResult,
  position: number,
  layer: number,
): Float32Array {
  const at = (position * layers + layer) * hidden;
  return residuals.subarray(at, at + hidden);
}

function dot(a: Float32Array, b: Float32Array): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += (a[i] as number) * (b[i] as number);
  return sum;
}
