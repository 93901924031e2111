import { type Candidates, type Mass, ROUNDING } from "./candidates.ts";

/*
 * The draw itself, on weights relative to the most likely token's, which is 1.
 *
 * Whatever is cut off, the tokens that stay are the first so many in descending order. So all that the tail behind the
 * candidates can change is one number, the mass that stays, and what is known of it is an interval. The draw is
 * decided when both ends of the interval give the same candidate; then every number between them does too.
 */

interface Cuts {
  /** Above 0. */
  readonly temperature: number;
  readonly topK: number;
  readonly topP: number;
  readonly minP: number;
}

/**
 * @param random - uniform in [0, 1)
 * @returns the rank of the token drawn; undefined when that depends on the tokens behind the candidates
 */
export function draw(candidates: Candidates, cuts: Cuts, random: number): number | undefined {
  const { topK, topP, minP } = cuts;
  const count = topK === 0 ? candidates.logits.length : Math.min(topK, candidates.logits.length);
  /** Tokens behind the candidates that topK keeps. */
  const behind = topK === 0 ? candidates.rest : Math.min(topK - count, candidates.rest);
  const { weights, cumulative } = accumulate(candidates, cuts.temperature, count);

  let kept: Mass = { low: cumulative[count - 1] as number, high: cumulative[count - 1] as number };
  if (behind > 0) kept = withTail(kept, behind * (weights[count - 1] as number));
  if (behind > 0) kept = narrowed(kept, candidates.whole, behind === candidates.rest);
  if (topP < 1) kept = nucleus(kept, topP, cumulative, weights);
  if (minP > 0) kept = likelyEnough(kept, minP, cumulative, weights, behind);

  const rank = rankAt(cumulative, random * kept.low);
  return rank < count && rank === rankAt(cumulative, random * kept.high) ? rank : undefined;
}

/** Weights of the first `count` tokens at the temperature, and their running sums: float64[count] each. */
function accumulate({ logits }: Candidates, temperature: number, count: number) {
  const best = logits[0] as number;
  const weights = new Float64Array(count);
  const cumulative = new Float64Array(count);
  let sum = 0;
  for (let rank = 0; rank < count; rank++) {
    const weight = Math.exp(((logits[rank] as number) - best) / temperature);
    sum += weight;
    weights[rank] = weight;
    cumulative[rank] = sum;
  }
  return { weights, cumulative };
}

/** No token behind the candidates weighs more than the last of them. */
function withTail({ low, high }: Mass, most: number): Mass {
  return { low, high: (high + most) * (1 + ROUNDING) };
}

/** @param all - the kept mass is the whole one, not just part of it */
function narrowed(kept: Mass, whole: Mass, all: boolean): Mass {
  const low = all ? Math.max(kept.low, whole.low) : kept.low;
  const high = Math.min(kept.high, whole.high);
  // A sum that contradicts the candidates is of no use; what they say themselves still holds.
  return low <= high ? { low, high } : kept;
}

/** The mass of the smallest set of first tokens that holds the share `topP` of the kept mass. */
function nucleus(kept: Mass, topP: number, cumulative: Float64Array, weights: Float64Array): Mass {
  const low = cumulative[firstAtLeast(cumulative, topP * kept.low)];
  const high = cumulative[firstAtLeast(cumulative, topP * kept.high)];
  return {
    low: low ?? topP * kept.low,
    // Behind the candidates the set overshoots by less than one token.
    high: high ?? Math.min(kept.high, (topP * kept.high + (weights.at(-1) as number)) * (1 + ROUNDING)),
  };
}

/** The kept mass without the tokens that weigh less than `minP`. */
function likelyEnough(kept: Mass, minP: number, cumulative: Float64Array, weights: Float64Array, behind: number): Mass {
  let count = weights.length;
  while ((weights[count - 1] as number) < minP) count--;
  const mass = cumulative[count - 1] as number;
  // If even the last candidate is likely enough, some behind it may be.
  const high = count === weights.length && behind > 0 ? kept.high : Math.min(kept.high, mass);
  return { low: Math.min(kept.low, mass), high };
}

/** Rank of the token that covers `target`: the first whose running sum is above it; the length when there is none. */
function rankAt(cumulative: Float64Array, target: number): number {
  return firstIndex(cumulative.length, (rank) => (cumulative[rank] as number) > target);
}

function firstAtLeast(cumulative: Float64Array, target: number): number {
  return firstIndex(cumulative.length, (rank) => (cumulative[rank] as number) >= target);
}

/** The first index below `length` that satisfies a condition which, once true, stays true; `length` when none does. */
function firstIndex(length: number, holds: (index: number) => boolean): number {
  let [from, to] = [0, length];
  while (from < to) {
    const middle = (from + to) >>> 1;
    if (holds(middle)) to = middle;
    else from = middle + 1;
  }
  return from;
}
