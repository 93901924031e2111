import { type CoherenceBaseline, requireBaseline } from "./coherence-baseline.ts";
import { measureReply, type Reply, type ReplyMeasures } from "./reply.ts";

/**
 * Coherence score of a reply, 0 to 1, against what the unsteered model does.
 *
 * Each part asks one question of the reply, measures an excess over the baseline, and compares it with a limit:
 *
 * | part | excess | limit | catches |
 * |---|---|---|---|
 * | `entropy` | \|log of mean entropy over the baseline's\| | ±15 %, or 3 σ | certainty of a loop, drift into noise |
 * | `surprise` | mean of surprisal − entropy, less the baseline's | 15 % of the entropy, or 3 σ | shuffles, random tokens, broken text |
 * | `repetition` | share copied from earlier | 0.5, or 3 σ | loops, whatever the model thinks of them |
 * | `divergence` | mean KL to the unsteered twin | 1 nat | a reply that the unsteered model would not give |
 *
 * A part is 1 without excess, ½ at its limit and 1/16 at twice its limit. The score is the smallest part: a loop is not
 * redeemed by being easy to predict. So below ½ means: out of bounds, and `weakest` says where.
 *
 * Surprisal is −log p of the token that was written; its mean over text that the model itself samples equals the mean
 * entropy. So their gap needs no corpus to compare with: it is 0 for the model's own words and grows as tokens come from elsewhere.
 */
export interface CoherenceScore {
  readonly score: number;
  readonly weakest: CoherencePart;
  /** Each 0 to 1; `divergence` only where a KL was given. */
  readonly parts: Readonly<Partial<Record<CoherencePart, number>>>;
  /** Mean entropy over the baseline's. */
  readonly entropyRatio: number;
}

export type CoherencePart = "entropy" | "surprise" | "repetition" | "divergence";

/** The reference article's band around the baseline's entropy. */
export const ENTROPY_BAND = 0.15;

/** Share of the second half of a window that a reply may copy from earlier; prose copies 0.1 to 0.2. */
export const REPETITION_LIMIT = 0.5;

/** However much the unsteered model repeats itself, a full loop (1.0) stays out of bounds. */
const MAX_REPETITION_LIMIT = 0.75;

/** Mean KL to the unsteered twin. The usual recipe sets alpha where the 95th percentile is 1 nat; then the mean is about 0.3. */
export const KL_LIMIT_NATS = 1;

/** Limits widen to this many standard deviations of unsteered replies, so that few of those are ever out of bounds. */
const SPREAD = 3;

/** Keeps the ratio of entropies defined when a loop is certain of every token, in nats. */
const ENTROPY_FLOOR_NATS = 0.01;

/**
 * Score a reply.
 *
 * @throws SteeringError REPLY_EMPTY, SHAPE_MISMATCH, SCORE_INPUT_INVALID for the reply; BASELINE_INVALID
 */
export function coherence(reply: Reply, baseline: CoherenceBaseline): CoherenceScore {
  requireBaseline(baseline);
  return coherenceOf(measureReply(reply), baseline);
}

/** As {@link coherence}, of a reply that is measured already. @throws SteeringError BASELINE_INVALID */
export function coherenceOf(measured: ReplyMeasures, baseline: CoherenceBaseline): CoherenceScore {
  requireBaseline(baseline);
  // Means over fewer tokens spread more; those over more tokens are given the same room.
  const spread = SPREAD * Math.sqrt(Math.max(1, baseline.meanTokens / measured.tokens));

  const entropyRatio = (measured.entropy + ENTROPY_FLOOR_NATS) / (baseline.meanEntropy + ENTROPY_FLOOR_NATS);
  const entropyLimit = Math.max(ENTROPY_BAND, (spread * baseline.entropyStd) / baseline.meanEntropy);
  const surprise = measured.gap - baseline.meanGap;
  const surpriseLimit = Math.max(ENTROPY_BAND * baseline.meanEntropy, spread * baseline.gapStd);
  const repetitionLimit = Math.min(
    MAX_REPETITION_LIMIT,
    Math.max(REPETITION_LIMIT, baseline.meanRepetition + spread * baseline.repetitionStd),
  );

  const parts: Record<string, number> = {
    entropy: part(Math.abs(Math.log(entropyRatio)), Math.log1p(entropyLimit)),
    surprise: part(Math.max(0, surprise), surpriseLimit),
    repetition: part(measured.repetition, repetitionLimit),
    ...(measured.kl === undefined ? {} : { divergence: part(measured.kl, KL_LIMIT_NATS) }),
  };
  const [weakest, score] = Object.entries(parts).reduce((least, next) => (next[1] < least[1] ? next : least));
  return { score, weakest: weakest as CoherencePart, parts, entropyRatio };
}

/** 1 at 0, ½ at the limit, 1/16 at twice the limit. */
function part(excess: number, limit: number): number {
  return 2 ** -((excess / limit) ** 2);
}
