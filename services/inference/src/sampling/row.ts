import { type Candidates, type Mass, UNKNOWN_MASS } from "./candidates.ts";
import { rankedPrefixes } from "./ranked-prefixes.ts";

/** The most likely tokens of one row, as the top-k head gives them. */
export interface TopRow {
  readonly kind: "top";
  /** Token ids, int32[k]; equal logits in ascending order of the id. */
  readonly ids: Int32Array;
  /** float32[k], descending: the k largest of the vocabulary. */
  readonly logits: Float32Array;
  readonly vocabulary: number;
  /** log Σ exp(logits) over the vocabulary, nats. */
  readonly logSumExp: number;
  /** log Σ exp(logits / temperature); not read at temperature 0. */
  readonly temperedLogSumExp: number;
}

/** Every logit of one row. */
export interface FullRow {
  readonly kind: "full";
  /** float32[vocabulary] in order of the token id; at most 2²¹ tokens. */
  readonly logits: Float32Array;
}

export type Row = TopRow | FullRow;

/**
 * What a log-sum-exp out of a float32 graph may be off by: this many nats, and so many more per nat of the numbers it
 * is made of (a few roundings of 2⁻²⁴ each). Measured on the CPU head at 49,152 and 128,256 tokens, temperatures 0.3 to
 * 10, flat to sharp: at most 0.42 of it. A wider allowance costs full rows: a draw is that much likelier to be too close
 * to a border between two tokens.
 */
const SUM_ERROR = 2e-5;
const SUM_ERROR_PER_NAT = 2 ** -22;

/**
 * @returns the row's candidates, then, as far as the row has more, longer lists of them; undefined when its logits make
 *   no distribution: NaN, +Inf, or nothing but −Inf
 */
export function candidatesOf(row: Row, temperature: number): Iterable<Candidates> | undefined {
  if (row.logits.length === 0) throw new RangeError("a row without logits");
  if (row.kind === "full") return rankedPrefixes(row.logits, temperature);
  const candidates = topCandidates(row, temperature);
  return candidates === undefined ? undefined : [candidates];
}

function topCandidates(row: TopRow, temperature: number): Candidates | undefined {
  const { ids, logits, vocabulary, logSumExp } = row;
  if (ids.length !== logits.length || ids.length > vocabulary) {
    throw new RangeError(`${ids.length} ids and ${logits.length} logits of a vocabulary of ${vocabulary}`);
  }
  // The largest comes first, and a NaN or +Inf behind the candidates is in the sum.
  if (!Number.isFinite(logits[0]) || !Number.isFinite(logSumExp) || logits.some(Number.isNaN)) return undefined;
  for (let i = 1; i < logits.length; i++) {
    if ((logits[i] as number) > (logits[i - 1] as number)) throw new RangeError(`candidate ${i} is out of order`);
  }
  return { ids, logits, rest: vocabulary - ids.length, logSumExp, whole: wholeMass(row, temperature) };
}

/** What the graph says about the mass of the whole vocabulary; nothing where it is no number. */
function wholeMass({ logits, temperedLogSumExp }: TopRow, temperature: number): Mass {
  const best = (logits[0] as number) / temperature;
  const error = SUM_ERROR + SUM_ERROR_PER_NAT * (Math.abs(best) + Math.abs(temperedLogSumExp));
  const middle = temperedLogSumExp - best;
  if (!Number.isFinite(middle + error)) return UNKNOWN_MASS;
  return { low: Math.exp(middle - error), high: Math.exp(middle + error) };
}
