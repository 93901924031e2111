import { SteeringError } from "./error.ts";
import { replyRepetition } from "./repetition.ts";

/** Longest reply that is scored; bounds the work on what may come from a caller. */
export const MAX_SCORED_TOKENS = 1 << 17;

/**
 * A reply and what a model says of each of its tokens.
 *
 * Read by the *unsteered* model, surprise shows what steering broke; a tone that the model can write by itself, asked for in
 * a system line, costs nothing. Read by the model *as it served*, steered, the surprise is about 0 by construction, and only
 * entropy and repetition move. A baseline is made with the same reader.
 */
export interface Reply {
  readonly tokenIds: ArrayLike<number>;
  /** Entropy of the distribution that each token was drawn from, nats. */
  readonly entropies: ArrayLike<number>;
  /** Log-probability of each token under that distribution, nats, ≤ 0. */
  readonly logProbs: ArrayLike<number>;
  /** KL of the steered distribution to the unsteered twin's at each token, nats, where there is a twin. */
  readonly kls?: ArrayLike<number>;
}

/** A reply in numbers. */
export interface ReplyMeasures {
  readonly tokens: number;
  /** Mean entropy, nats. */
  readonly entropy: number;
  /** Mean surprisal (−log p), nats. */
  readonly surprisal: number;
  /** Mean surprisal − mean entropy, nats: 0 on average for the model's own samples at temperature 1. */
  readonly gap: number;
  /** 0 to 1, see `replyRepetition`. */
  readonly repetition: number;
  /** Mean KL, nats. */
  readonly kl?: number;
}

/**
 * @throws SteeringError REPLY_EMPTY; SHAPE_MISMATCH when the lists differ in length; SCORE_INPUT_INVALID for a NaN, an
 *   infinite or negative entropy, a negative KL, a positive log-probability, or a reply over {@link MAX_SCORED_TOKENS}
 */
export function measureReply({ tokenIds, entropies, logProbs, kls }: Reply): ReplyMeasures {
  const tokens = tokenIds.length;
  if (tokens === 0) throw new SteeringError("REPLY_EMPTY", "a reply of no tokens has no coherence");
  if (tokens > MAX_SCORED_TOKENS) {
    const message = `a reply of ${tokens} tokens is over the limit ${MAX_SCORED_TOKENS}`;
    throw new SteeringError("SCORE_INPUT_INVALID", message, { tokens, limit: MAX_SCORED_TOKENS });
  }
  for (const [name, list] of Object.entries({ entropies, logProbs, kls: kls ?? tokenIds })) {
    if (list.length !== tokens) {
      const message = `${list.length} ${name} for ${tokens} tokens`;
      throw new SteeringError("SHAPE_MISMATCH", message, { tokens, [name]: list.length });
    }
  }
  const entropy = meanOf("entropy", entropies, (x) => x);
  const surprisal = meanOf("surprisal", logProbs, (x) => -x);
  return {
    tokens,
    entropy,
    surprisal,
    gap: surprisal - entropy,
    repetition: replyRepetition(tokenIds),
    ...(kls === undefined ? {} : { kl: meanOf("KL", kls, (x) => x) }),
  };
}

/** What float32 rounding may leave below 0 of a number that is never negative. */
const ROUNDING = 1e-4;

function meanOf(name: string, values: ArrayLike<number>, toNats: (value: number) => number): number {
  let sum = 0;
  for (let i = 0; i < values.length; i++) {
    const nats = toNats(values[i] as number);
    // A token that the model rules out has infinite surprisal, and a divergence may be infinite; an entropy never is.
    if (!(nats >= -ROUNDING) || (name === "entropy" && !Number.isFinite(nats))) {
      throw new SteeringError("SCORE_INPUT_INVALID", `${name} ${nats} nats at token ${i}`, { token: i });
    }
    sum += Math.max(0, nats);
  }
  return sum / values.length;
}
