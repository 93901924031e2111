import { SteeringError } from "./error.ts";
import { measureReply, type Reply } from "./reply.ts";

/**
 * What replies of the unsteered model are like: means of the replies' own means, and standard deviations *between replies*
 * (not between tokens), in nats. Made with the sampling settings of the replies that it will judge.
 */
export interface CoherenceBaseline {
  /** Mean length of the replies; shorter ones are given more room. */
  readonly meanTokens: number;
  readonly meanEntropy: number;
  readonly entropyStd: number;
  readonly meanSurprisal: number;
  readonly surprisalStd: number;
  /** Of surprisal − entropy, which spreads less than either. */
  readonly meanGap: number;
  readonly gapStd: number;
  readonly meanRepetition: number;
  readonly repetitionStd: number;
}

/** Fewer replies give no standard deviation to rely on. */
export const MIN_BASELINE_REPLIES = 8;

/**
 * Measure a baseline from unsteered replies.
 *
 * @throws SteeringError BASELINE_INVALID for too few replies or no entropy at all; as `measureReply` for a bad one
 */
export function coherenceBaseline(replies: readonly Reply[]): CoherenceBaseline {
  if (replies.length < MIN_BASELINE_REPLIES) {
    const message = `a baseline needs at least ${MIN_BASELINE_REPLIES} replies, and has ${replies.length}`;
    throw new SteeringError("BASELINE_INVALID", message, { replies: replies.length, limit: MIN_BASELINE_REPLIES });
  }
  const measured = replies.map(measureReply);
  const entropy = spreadOf(measured.map((reply) => reply.entropy));
  const surprisal = spreadOf(measured.map((reply) => reply.surprisal));
  const gap = spreadOf(measured.map((reply) => reply.gap));
  const repetition = spreadOf(measured.map((reply) => reply.repetition));
  const baseline = {
    meanTokens: spreadOf(measured.map((reply) => reply.tokens)).mean,
    meanEntropy: entropy.mean,
    entropyStd: entropy.std,
    meanSurprisal: surprisal.mean,
    surprisalStd: surprisal.std,
    meanGap: gap.mean,
    gapStd: gap.std,
    meanRepetition: repetition.mean,
    repetitionStd: repetition.std,
  };
  requireBaseline(baseline);
  return baseline;
}

export const COHERENCE_BASELINE_FIELDS: readonly (keyof CoherenceBaseline)[] = [
  "meanTokens",
  "meanEntropy",
  "entropyStd",
  "meanSurprisal",
  "surprisalStd",
  "meanGap",
  "gapStd",
  "meanRepetition",
  "repetitionStd",
];

/** @throws SteeringError BASELINE_INVALID naming the field */
export function requireBaseline(baseline: CoherenceBaseline): void {
  for (const field of COHERENCE_BASELINE_FIELDS) {
    const value = baseline[field];
    const least = field === "meanGap" ? Number.NEGATIVE_INFINITY : 0;
    if (!Number.isFinite(value) || value < least) {
      throw new SteeringError("BASELINE_INVALID", `coherence baseline: ${field} is ${value}`, { field, value });
    }
  }
  if (!(baseline.meanEntropy > 0)) {
    const message = "coherence baseline: a model without entropy has no band around it; sample above temperature 0";
    throw new SteeringError("BASELINE_INVALID", message, { field: "meanEntropy", value: baseline.meanEntropy });
  }
}

/** Mean and sample standard deviation. */
function spreadOf(values: readonly number[]): { mean: number; std: number } {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  const squares = values.reduce((sum, value) => sum + (value - mean) ** 2, 0);
  return { mean, std: Math.sqrt(squares / (values.length - 1)) };
}
