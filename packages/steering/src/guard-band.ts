import { SteeringError } from "./error.ts";
import { GUARD_POLICY_BOUNDS, type GuardPolicy } from "./guard-policy.ts";
import { GuardWindow, type WindowLook } from "./guard-window.ts";
import { tailBound } from "./tail-bound.ts";

/** A reply of the unsteered model, as far as the guard's limits depend on it. */
export interface BaselineReply {
  /** Which tokens are equal is all that matters of them. */
  readonly tokens: ArrayLike<number>;
  /** Of the distribution that each token was drawn from, nats. */
  readonly entropies: ArrayLike<number>;
}

/** What a window of a reply may be like. */
export interface GuardBand {
  readonly windowTokens: number;
  /** Mean entropy of unsteered windows, nats. */
  readonly meanEntropy: number;
  /** Lowest and highest mean entropy of a window that is within bounds, nats; `low` may be below 0. */
  readonly low: number;
  readonly high: number;
  /** Highest repetition of a window that is within bounds. */
  readonly repetition: number;
  /** Tokens of the windows that were measured: fewer than `windowTokens` where too few replies were as long. */
  readonly measuredTokens: number;
  /** Replies that had such a window. */
  readonly replies: number;
}

/** Fewer replies show nothing of the tails. */
export const MIN_BAND_REPLIES = 30;

/**
 * Share of unsteered *replies*, not windows, that each of the three limits (low, high, repetition) may be left by. With
 * all three that is three quarters of the 1 % that may trip.
 */
const TRIP_SHARE = 0.0025;

/** A full loop repeats everything: however much the unsteered model repeats, that stays out of bounds. */
const MAX_REPETITION = 0.95;

/**
 * Half-width that every band has, nats: where a model is nearly certain of every word, a share of its entropy is less than what one
 * more open question adds to a window.
 */
const MIN_HALF_WIDTH = 0.05;

/** Keeps ratios and logarithms defined where a model is certain of every token, nats. */
const ENTROPY_FLOOR_NATS = 0.01;

/**
 * The band for a policy's window: its share of the baseline's entropy to either side, widened to what unsteered replies keep
 * within. A reply counts by its most extreme window, since one window is enough to trip the guard.
 *
 * Where fewer than {@link MIN_BAND_REPLIES} are as long as the window, the band is that of the next shorter window (half as long)
 * that has enough: means over fewer tokens spread more, so that errs towards leaving replies alone.
 *
 * Longer replies have more windows and trip more often: a baseline should be made of replies as long as those that it is for.
 *
 * @throws SteeringError BASELINE_INVALID when too few replies have even the shortest window; SHAPE_MISMATCH;
 *   SCORE_INPUT_INVALID for entropies that are none
 */
export function guardBand(replies: readonly BaselineReply[], policy: BandPolicy): GuardBand {
  return bandOf(measureWindows(replies, policy.windowTokens), policy);
}

/** What of a policy a band depends on. */
export type BandPolicy = Pick<GuardPolicy, "windowTokens" | "bandHundredths" | "repetitionHundredths">;

/** What the windows of unsteered replies are like: all that a band is made from, and what takes time to find. */
export interface WindowStatistics {
  readonly windowTokens: number;
  readonly measuredTokens: number;
  /** Of every reply that has such a window. */
  readonly extremes: readonly ReplyExtremes[];
}

interface ReplyExtremes {
  /** Of its windows' means, nats. */
  readonly low: number;
  readonly high: number;
  readonly mean: number;
  readonly repetition: number;
}

/** @throws as {@link guardBand} */
export function measureWindows(replies: readonly BaselineReply[], windowTokens: number): WindowStatistics {
  const [shortest] = GUARD_POLICY_BOUNDS.windowTokens;
  let measuredTokens = windowTokens;
  let extremes = extremesOf(replies, measuredTokens);
  while (extremes.length < MIN_BAND_REPLIES && measuredTokens > shortest) {
    measuredTokens = Math.max(shortest, measuredTokens >> 1);
    extremes = extremesOf(replies, measuredTokens);
  }
  if (extremes.length < MIN_BAND_REPLIES) {
    const message = `${extremes.length} replies are as long as a window of ${shortest} tokens; a guard's baseline needs ${MIN_BAND_REPLIES}`;
    throw new SteeringError("BASELINE_INVALID", message, { replies: extremes.length, limit: MIN_BAND_REPLIES });
  }
  return { windowTokens, measuredTokens, extremes };
}

/** The band that a policy asks for. @throws RangeError for statistics of another window */
export function bandOf({ windowTokens, measuredTokens, extremes }: WindowStatistics, policy: BandPolicy): GuardBand {
  if (policy.windowTokens !== windowTokens) {
    throw new RangeError(`windows of ${windowTokens} tokens were measured, not of ${policy.windowTokens}`);
  }
  const meanEntropy = extremes.reduce((sum, { mean }) => sum + mean, 0) / extremes.length;
  const half = Math.max(MIN_HALF_WIDTH, (meanEntropy * policy.bandHundredths) / 100);
  const bound = (of: (reply: ReplyExtremes) => number) => tailBound(extremes.map(of), TRIP_SHARE);
  // On the logarithm, as an entropy is compared by its ratio and never below 0.
  const toLog = (entropy: number) => Math.log(entropy + ENTROPY_FLOOR_NATS);
  const highest = Math.exp(bound(({ high }) => toLog(high))) - ENTROPY_FLOOR_NATS;
  const lowest = Math.exp(-bound(({ low }) => -toLog(low))) - ENTROPY_FLOOR_NATS;
  const repeated = bound(({ repetition }) => repetition);
  return {
    windowTokens,
    meanEntropy,
    low: Math.min(meanEntropy - half, lowest),
    high: Math.max(meanEntropy + half, highest),
    repetition: Math.min(MAX_REPETITION, Math.max(policy.repetitionHundredths / 100, repeated)),
    measuredTokens,
    replies: extremes.length,
  };
}

/** A window's mean entropy over the baseline's; finite also for a model without any. */
export function entropyRatio(entropy: number, { meanEntropy }: Pick<GuardBand, "meanEntropy">): number {
  return (entropy + ENTROPY_FLOOR_NATS) / (meanEntropy + ENTROPY_FLOOR_NATS);
}

/** Of every reply that has a window. */
function extremesOf(replies: readonly BaselineReply[], windowTokens: number): ReplyExtremes[] {
  return replies.flatMap((reply) => {
    const looks = looksOf(reply, windowTokens);
    if (looks.length === 0) return [];
    const entropies = looks.map(({ entropy }) => entropy);
    return {
      low: Math.min(...entropies),
      high: Math.max(...entropies),
      mean: entropies.reduce((sum, entropy) => sum + entropy, 0) / entropies.length,
      repetition: Math.max(...looks.map((look) => look.repetition)),
    };
  });
}

function looksOf({ tokens, entropies }: BaselineReply, windowTokens: number): WindowLook[] {
  if (tokens.length !== entropies.length) {
    const message = `${entropies.length} entropies for ${tokens.length} tokens`;
    throw new SteeringError("SHAPE_MISMATCH", message, { tokens: tokens.length, entropies: entropies.length });
  }
  const window = new GuardWindow(windowTokens);
  return Array.from({ length: tokens.length }, (_, at) =>
    window.push(tokens[at] as number, entropies[at] as number),
  ).filter((look) => look !== undefined);
}
