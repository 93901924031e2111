/** Uniform numbers in [0, 1) from a seed (mulberry32): every verification of a package does the same. */
function uniform(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Token ids drawn from a vocabulary. */
export function drawTokens(seed: number, count: number, vocabulary: number): number[] {
  const next = uniform(seed);
  return Array.from({ length: count }, () => Math.floor(next() * vocabulary));
}

/** A direction drawn from the sphere, float32[width], of the given length. */
export function drawRow(seed: number, width: number, length: number): Float32Array {
  const next = uniform(seed);
  const row = Float32Array.from({ length: width }, () => {
    return Math.sqrt(-2 * Math.log(1 - next())) * Math.cos(2 * Math.PI * next());
  });
  const scale = length / norm(row);
  return row.map((value) => value * scale);
}

/** L2 norm, summed in float64. */
export function norm(values: Float32Array): number {
  let squares = 0;
  for (const value of values) squares += value * value;
  return Math.sqrt(squares);
}
