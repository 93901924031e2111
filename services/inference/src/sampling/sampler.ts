import type { Candidates } from "./candidates.ts";
import { draw } from "./draw.ts";
import { candidatesOf, type Row } from "./row.ts";

/**
 * How to choose from the distribution. Order of operations: what a request adds to and takes from logits (`LogitEdits`:
 * biases, repetition penalty, presence and frequency penalties, tokens ruled out), then temperature, topK, topP, minP.
 * Log-probabilities that are reported are those of the distribution before all of it.
 */
export interface SamplingParameters {
  /** Divides the logits; 0 is greedy. 0 to {@link MAX_TEMPERATURE}. */
  readonly temperature: number;
  /** Keep the k most likely tokens; 0 keeps all. */
  readonly topK: number;
  /** Keep the smallest set of most likely tokens that holds this share of the mass that topK kept. Above 0, to 1. */
  readonly topP: number;
  /** Keep the tokens that are at least this share as likely as the most likely one. 0 to 1. */
  readonly minP: number;
}

export interface TokenLogProb {
  readonly id: number;
  /** Under the unmodified distribution (temperature 1, nothing cut off), nats. */
  readonly logProb: number;
}

export type Sampled =
  | {
      readonly kind: "token";
      readonly id: number;
      /** Under the unmodified distribution, nats. */
      readonly logProb: number;
      /** The most likely tokens, most likely first; fewer than asked for only where the vocabulary has fewer. */
      readonly alternatives: readonly TokenLogProb[];
    }
  /** The candidates do not decide: ask again with every logit of the row. Never the answer to a full row. */
  | { readonly kind: "needFullLogits" }
  /** NaN or infinity: the row has no distribution. */
  | { readonly kind: "overflow" };

/** Beyond this any model's distribution is as good as flat. */
export const MAX_TEMPERATURE = 10;

/**
 * Choose a token by the inverse of the cumulative distribution, tokens in descending order of their probability and
 * equal ones in ascending order of their id.
 *
 * A top row gives the token that the full row would give, or `needFullLogits`.
 *
 * @param random - uniform in [0, 1)
 * @param alternatives - how many of the most likely tokens to report
 * @throws RangeError for parameters out of range, or a row whose parts do not fit together
 */
export function sample(row: Row, parameters: SamplingParameters, random: number, alternatives = 0): Sampled {
  assertParameters(parameters, random);
  const lists = candidatesOf(row, parameters.temperature);
  if (lists === undefined) return { kind: "overflow" };
  for (const candidates of lists) {
    const rank = parameters.temperature === 0 ? 0 : draw(candidates, parameters, random);
    const reported = Math.min(alternatives, candidates.ids.length + candidates.rest);
    if (rank === undefined || reported > candidates.ids.length) continue;
    return {
      kind: "token",
      ...logProbAt(candidates, rank),
      alternatives: Array.from({ length: reported }, (_, index) => logProbAt(candidates, index)),
    };
  }
  return { kind: "needFullLogits" };
}

function logProbAt({ ids, logits, logSumExp }: Candidates, rank: number): TokenLogProb {
  return { id: ids[rank] as number, logProb: (logits[rank] as number) - logSumExp };
}

function assertParameters({ temperature, topK, topP, minP }: SamplingParameters, random: number): void {
  if (!(temperature >= 0 && temperature <= MAX_TEMPERATURE)) {
    throw new RangeError(`temperature ${temperature} is not in 0 to ${MAX_TEMPERATURE}`);
  }
  if (!Number.isInteger(topK) || topK < 0) throw new RangeError(`topK ${topK} is not an integer from 0 up`);
  if (!(topP > 0 && topP <= 1)) throw new RangeError(`topP ${topP} is not above 0 and at most 1`);
  if (!(minP >= 0 && minP <= 1)) throw new RangeError(`minP ${minP} is not in 0 to 1`);
  if (!(random >= 0 && random < 1)) throw new RangeError(`the random number ${random} is not in [0, 1)`);
}
