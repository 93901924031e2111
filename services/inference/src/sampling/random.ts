/**
 * Random numbers without state: the uniform of a token is a function of (seed, choice, position), so it does not depend
 * on what else runs, on how often a step was repeated, or on which worker runs it.
 *
 * Philox4x32-10 (Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3", SC 2011): ten rounds of
 * 32 × 32 → 64 bit multiplications over a 128-bit counter under a 64-bit key.
 */

const ROUNDS = 10;
const MULTIPLIER_0 = 0xd2511f53;
const MULTIPLIER_1 = 0xcd9e8d57;
/** Weyl increments of the key: the golden ratio and √3 − 1. */
const KEY_STEP_0 = 0x9e3779b9;
const KEY_STEP_1 = 0xbb67ae85;

/** Exclusive bound of choice and position: one counter word each. */
const WORD = 2 ** 32;

export type Words4 = readonly [number, number, number, number];
export type Words2 = readonly [number, number];

/**
 * The random number of one token.
 *
 * @param seed - uint64
 * @param choice - which of the request's parallel replies, uint32
 * @param position - index of the token in the reply, uint32
 * @returns uniform over the multiples of 2⁻⁵³ in [0, 1)
 * @throws RangeError when an argument is out of its range
 */
export function uniform(seed: bigint, choice: number, position: number): number {
  if (seed !== BigInt.asUintN(64, seed)) throw new RangeError(`seed ${seed} is not a uint64`);
  for (const [name, word] of Object.entries({ choice, position })) {
    if (!Number.isInteger(word) || word < 0 || word >= WORD) throw new RangeError(`${name} ${word} is not a uint32`);
  }
  const key: Words2 = [Number(seed & 0xffffffffn), Number(seed >> 32n)];
  const [high, low] = philox([position, choice, 0, 0], key);
  return ((high >>> 5) * 2 ** 26 + (low >>> 6)) * 2 ** -53;
}

/** One Philox4x32-10 block: four uint32 for a counter of four and a key of two. */
export function philox(counter: Words4, key: Words2): Words4 {
  let [x0, x1, x2, x3] = counter;
  let [k0, k1] = key;
  for (let round = 0; round < ROUNDS; round++) {
    const high0 = multiplyHigh(MULTIPLIER_0, x0);
    const high1 = multiplyHigh(MULTIPLIER_1, x2);
    const low0 = Math.imul(MULTIPLIER_0, x0) >>> 0;
    const low1 = Math.imul(MULTIPLIER_1, x2) >>> 0;
    x0 = (high1 ^ x1 ^ k0) >>> 0;
    x1 = low1;
    x2 = (high0 ^ x3 ^ k1) >>> 0;
    x3 = low0;
    k0 = (k0 + KEY_STEP_0) >>> 0;
    k1 = (k1 + KEY_STEP_1) >>> 0;
  }
  return [x0, x1, x2, x3];
}

/** Upper 32 bits of the product of two uint32. Every partial sum stays below 2⁵³, so it is exact. */
function multiplyHigh(a: number, b: number): number {
  const bHigh = b >>> 16;
  const bLow = b & 0xffff;
  return Math.floor((a * bHigh + Math.floor((a * bLow) / 0x10000)) / 0x10000);
}
