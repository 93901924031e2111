/** Uniform numbers in [0, 1) from a seed (mulberry32): tests that draw say their seed, and can be run again. */
export function uniform(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** A direction evenly drawn from the sphere, float32[width], of length 1. */
export function unitDirection(seed: number, width: number): Float32Array {
  const next = uniform(seed);
  const gaussian = () => Math.sqrt(-2 * Math.log(1 - next())) * Math.cos(2 * Math.PI * next());
  const values = Array.from({ length: width }, gaussian);
  const length = Math.hypot(...values);
  return Float32Array.from(values, (x) => x / length);
}
