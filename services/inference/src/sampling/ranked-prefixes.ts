import { type Candidates, type Mass, ROUNDING, UNKNOWN_MASS } from "./candidates.ts";

/*
 * Descending order of a whole row, as much of it as a draw needs: sorting 128k logits takes longer than a decode step
 * of a small model, and the first thousand decide nearly every draw.
 */

/** Tokens ranked at first, and how much longer each further prefix is. */
const FIRST = 1024;
const GROWTH = 8;

/** A sort key has 32 bits of logit and this range of token ids below them: 53 bits, exact in a double. */
const ID_RANGE = 2 ** 21;

const NEGATIVE_ZERO = 0x80000000;
const LARGEST_POSITIVE = 0x7fffffff;
/** A bucket is a sign, an exponent and the 7 highest bits of a mantissa. */
const BUCKETS = 2 ** 16;

/**
 * Longer and longer prefixes of the row in descending order, the last one the row itself.
 *
 * @param logits - float32[vocabulary] in order of the token id
 * @returns undefined when the logits make no distribution: NaN, +Inf, or nothing but −Inf
 * @throws RangeError for a vocabulary of more than 2²¹
 */
export function rankedPrefixes(logits: Float32Array, temperature: number): Iterable<Candidates> | undefined {
  if (logits.length > ID_RANGE) throw new RangeError(`a vocabulary of ${logits.length}, at most ${ID_RANGE}`);
  let best = Number.NEGATIVE_INFINITY;
  for (let id = 0; id < logits.length; id++) best = Math.max(best, logits[id] as number);
  if (!Number.isFinite(best)) return undefined;
  const logSumExp = best + Math.log(massOf(logits, best, 1));
  return prefixes(logits, logSumExp, wholeMass(logits, best, temperature));
}

function* prefixes(logits: Float32Array, logSumExp: number, whole: Mass): Generator<Candidates> {
  const keys = descendingKeys(logits);
  const prefix = (last: number, size: number): Candidates => {
    const ids = ranked(keys, last, size);
    const sorted = Float32Array.from(ids, (id) => logits[id] as number);
    return { ids, logits: sorted, rest: logits.length - size, logSumExp, whole };
  };
  if (logits.length <= FIRST) {
    yield prefix(BUCKETS - 1, logits.length);
    return;
  }
  const counts = tokensPerBucket(keys);
  let bucket = -1;
  let size = 0;
  for (let wanted = FIRST; size < logits.length; wanted *= GROWTH) {
    while (size < Math.min(wanted, logits.length)) size += counts[++bucket] as number;
    yield prefix(bucket, size);
  }
}

function tokensPerBucket(keys: Uint32Array): Int32Array {
  const counts = new Int32Array(BUCKETS);
  for (let id = 0; id < keys.length; id++) {
    const bucket = (keys[id] as number) >>> 16;
    counts[bucket] = (counts[bucket] as number) + 1;
  }
  return counts;
}

/** Σ exp((logits − best) / temperature). */
function massOf(logits: Float32Array, best: number, temperature: number): number {
  let sum = 0;
  for (let id = 0; id < logits.length; id++) sum += Math.exp(((logits[id] as number) - best) / temperature);
  return sum;
}

function wholeMass(logits: Float32Array, best: number, temperature: number): Mass {
  // Greedy draws nothing.
  if (temperature === 0) return UNKNOWN_MASS;
  const mass = massOf(logits, best, temperature);
  return { low: mass * (1 - ROUNDING), high: mass * (1 + ROUNDING) };
}

/** uint32[vocabulary] that ascends as the logits descend: IEEE 754 patterns ascend with the size of the number. */
function descendingKeys(logits: Float32Array): Uint32Array {
  const bits = new Uint32Array(logits.buffer, logits.byteOffset, logits.length);
  const keys = new Uint32Array(logits.length);
  for (let id = 0; id < keys.length; id++) {
    const pattern = bits[id] as number;
    // −0 equals 0.
    keys[id] = pattern > NEGATIVE_ZERO ? pattern : LARGEST_POSITIVE - (pattern % NEGATIVE_ZERO);
  }
  return keys;
}

/** Ids of the `size` tokens in the buckets up to `last`, by key, then by id. Plain numbers sort natively. */
function ranked(keys: Uint32Array, last: number, size: number): Int32Array {
  const order = new Float64Array(size);
  let at = 0;
  for (let id = 0; id < keys.length; id++) {
    const key = keys[id] as number;
    if (key >>> 16 <= last) order[at++] = key * ID_RANGE + id;
  }
  order.sort();
  return Int32Array.from(order, (each) => each % ID_RANGE);
}
