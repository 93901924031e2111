/** Shared by the tests only. */

/** Uniform numbers in [0, 1) from a seed (mulberry32). */
export function uniform(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Standard normal numbers from a seed (Box–Muller). */
export function gaussian(seed: number): () => number {
  const next = uniform(seed);
  return () => Math.sqrt(-2 * Math.log(1 - next())) * Math.cos(2 * Math.PI * next());
}

export function randomVector(next: () => number, width: number): Float32Array {
  return Float32Array.from({ length: width }, next);
}

/** Fisher–Yates; a new array. */
export function shuffled<T>(items: readonly T[], next: () => number): T[] {
  const result = [...items];
  for (let i = result.length - 1; i > 0; i--) {
    const j = Math.floor(next() * (i + 1));
    [result[i], result[j]] = [result[j] as T, result[i] as T];
  }
  return result;
}

/** Base64 of little-endian float32, as the fixtures hold arrays; rows of `width`. */
export function rowsOf(base64: string, width: number): Float32Array[] {
  const bytes = Uint8Array.from(Buffer.from(base64, "base64"));
  const values = new Float32Array(bytes.buffer);
  return Array.from({ length: values.length / width }, (_, i) => values.slice(i * width, (i + 1) * width));
}

export function float64Of(base64: string): Float64Array {
  return new Float64Array(Uint8Array.from(Buffer.from(base64, "base64")).buffer);
}

export function largestDifference(a: ArrayLike<number>, b: ArrayLike<number>): number {
  if (a.length !== b.length) throw new RangeError(`widths ${a.length} and ${b.length}`);
  return Array.from(a).reduce((most, x, i) => Math.max(most, Math.abs(x - (b[i] as number))), 0);
}

/** The reason of the SteeringError that a call throws; anything else it does is an error of the test. */
export function reasonOf(call: () => unknown): string {
  try {
    call();
  } catch (error) {
    if (error instanceof Error && error.name === "SteeringError") return (error as Error & { reason: string }).reason;
    throw error;
  }
  throw new Error("expected a SteeringError");
}
