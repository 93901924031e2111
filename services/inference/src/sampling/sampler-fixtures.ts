import type { FullRow, TopRow } from "./row.ts";
import type { SamplingParameters } from "./sampler.ts";

/** What the tests compare with: the definition of sampling, spelled out on plain arrays. */

export const EVERYTHING: SamplingParameters = { temperature: 1, topK: 0, topP: 1, minP: 0 };

export interface Weighted {
  readonly id: number;
  /** Relative to the most likely token's. */
  readonly weight: number;
}

/** The tokens that the parameters keep, most likely first. */
export function keptTokens(logits: Float32Array, { temperature, topK, topP, minP }: SamplingParameters): Weighted[] {
  const best = logits.reduce((a, b) => Math.max(a, b));
  let kept = Array.from(logits, (logit, id) => ({ id, logit }))
    .sort((a, b) => (a.logit === b.logit ? a.id - b.id : b.logit - a.logit))
    .map(({ id, logit }) => ({ id, weight: Math.exp((logit - best) / temperature) }));
  if (topK > 0) kept = kept.slice(0, topK);
  const wanted = topP * mass(kept);
  if (topP < 1) kept = kept.slice(0, 1 + runningMass(kept).findIndex((sum) => sum >= wanted));
  return kept.filter(({ weight }) => weight >= minP);
}

/** The token whose part of the kept mass a random number falls into. */
export function samplerByDefinition(logits: Float32Array, parameters: SamplingParameters): (random: number) => number {
  if (parameters.temperature === 0) return () => logits.indexOf(logits.reduce((a, b) => Math.max(a, b)));
  const kept = keptTokens(logits, parameters);
  const running = runningMass(kept);
  return (random) => {
    const target = random * mass(kept);
    const chosen = kept[running.findIndex((sum) => sum > target)];
    if (chosen === undefined) throw new Error("nothing chosen");
    return chosen.id;
  };
}

export function sampleByDefinition(logits: Float32Array, parameters: SamplingParameters, random: number): number {
  return samplerByDefinition(logits, parameters)(random);
}

/** Probability of each token, float64[vocabulary]. */
export function probabilities(logits: Float32Array, parameters: SamplingParameters): Float64Array {
  const kept = keptTokens(logits, parameters);
  const result = new Float64Array(logits.length);
  const total = mass(kept);
  for (const { id, weight } of kept) result[id] = weight / total;
  return result;
}

/** Σ of the weights up to and including each token. */
function runningMass(tokens: readonly Weighted[]): number[] {
  let sum = 0;
  return tokens.map(({ weight }) => {
    sum += weight;
    return sum;
  });
}

function mass(tokens: readonly Weighted[]): number {
  return runningMass(tokens).at(-1) ?? 0;
}

export function fullRow(logits: Float32Array): FullRow {
  return { kind: "full", logits };
}

/** What the top head would say: its sums are float32, and a little off. */
export function topRow(logits: Float32Array, k: number, temperature: number, error = 0): TopRow {
  const order = Int32Array.from(logits.keys()).sort((a, b) => {
    const difference = (logits[b] as number) - (logits[a] as number);
    return difference === 0 || Number.isNaN(difference) ? a - b : difference;
  });
  const ids = order.slice(0, k);
  const sum = (scale: number) => {
    const scaled = Array.from(logits, (logit) => logit * scale);
    const best = scaled.reduce((a, b) => Math.max(a, b));
    return Math.fround(best + Math.log(scaled.reduce((total, x) => total + Math.exp(x - best), 0)) + error);
  };
  return {
    kind: "top",
    ids,
    logits: Float32Array.from(ids, (id) => logits[id] as number),
    vocabulary: logits.length,
    logSumExp: sum(1),
    temperedLogSumExp: temperature > 0 ? sum(Math.fround(1 / temperature)) : 0,
  };
}
