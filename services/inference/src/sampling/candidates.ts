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
  /** log Σ exp(logits / temperature); read when the temperature is not 0. */
  readonly temperedLogSumExp: number;
}

/** Every logit of one row. */
export interface FullRow {
  readonly kind: "full";
  /** float32[vocabulary] in order of the token id. */
  readonly logits: Float32Array;
}

export type Row = TopRow | FullRow;

/** Tokens in descending order of their logit, equal ones in ascending order of their id. */
export interface Candidates {
  readonly ids: Int32Array;
  readonly logits: Float32Array;
  /** Tokens behind the last candidate, none with a larger logit than it. */
  readonly rest: number;
  /** log Σ exp(logits) over the vocabulary, nats. */
  readonly logSumExp: number;
  /** log Σ exp(logits / temperature), for candidates with a rest. */
  readonly temperedLogSumExp?: number;
}

/** The sort key keeps a token id in this many low bits beside 32 bits of logit: 53 in all, exact in a double. */
const ID_RANGE = 2 ** 21;

const NEGATIVE_ZERO = 0x80000000;
const LARGEST_POSITIVE = 0x7fffffff;

/** @returns the candidates of a row, or undefined when its logits make no distribution: NaN, +Inf, or nothing but −Inf */
export function candidatesOf(row: Row): Candidates | undefined {
  const candidates = row.kind === "top" ? top(row) : full(row);
  const best = candidates.logits[0];
  if (best === undefined) throw new RangeError("a row without logits");
  // The largest value comes first, and a NaN anywhere is in the sum.
  return Number.isFinite(best) && Number.isFinite(candidates.logSumExp) ? candidates : undefined;
}

function top({ ids, logits, vocabulary, logSumExp, temperedLogSumExp }: TopRow): Candidates {
  if (ids.length !== logits.length || ids.length > vocabulary) {
    throw new RangeError(`${ids.length} ids and ${logits.length} logits of a vocabulary of ${vocabulary}`);
  }
  for (let i = 1; i < logits.length; i++) {
    // Written so that a NaN passes: it is a bad row, not a bad head.
    if ((logits[i] as number) > (logits[i - 1] as number)) throw new RangeError(`candidate ${i} is out of order`);
  }
  const unusable = logits.some(Number.isNaN);
  return {
    ids,
    logits,
    rest: vocabulary - ids.length,
    logSumExp: unusable ? Number.NaN : logSumExp,
    temperedLogSumExp,
  };
}

function full({ logits }: FullRow): Candidates {
  const ids = descending(logits);
  const sorted = new Float32Array(ids.length);
  for (let i = 0; i < ids.length; i++) sorted[i] = logits[ids[i] as number] as number;
  const best = sorted[0] as number;
  let sum = 0;
  for (const logit of sorted) sum += Math.exp(logit - best);
  return { ids, logits: sorted, rest: 0, logSumExp: best + Math.log(sum) };
}

/** Token ids by descending logit, then ascending id. Numbers in a typed array sort natively, without a comparator. */
function descending(logits: Float32Array): Int32Array {
  if (logits.length > ID_RANGE) throw new RangeError(`a vocabulary of ${logits.length}, at most ${ID_RANGE}`);
  const bits = new Uint32Array(logits.buffer, logits.byteOffset, logits.length);
  const keys = new Float64Array(logits.length);
  for (let id = 0; id < keys.length; id++) {
    const pattern = bits[id] as number;
    // IEEE 754 patterns of positive numbers ascend with the number, of negative ones with its size; −0 equals 0.
    const isNegative = pattern > NEGATIVE_ZERO;
    const key = isNegative ? pattern : LARGEST_POSITIVE - (pattern % NEGATIVE_ZERO);
    keys[id] = key * ID_RANGE + id;
  }
  keys.sort();
  return Int32Array.from(keys, (key) => key % ID_RANGE);
}
