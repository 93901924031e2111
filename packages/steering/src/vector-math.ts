import { SteeringError } from "./error.ts";

/** A dense vector. Sums over it are kept in float64, in a fixed order: the same input gives the same bits. */
export type Vector = Float32Array | Float64Array;

/** Below this length a vector has no direction: residual norms are of order 1 to 1e4, rounding noise of order 1e-7. */
export const MIN_NORM = 1e-12;

/**
 * ⟨a,b⟩, accumulated in float64.
 *
 * @param a - [n]
 * @param b - [n]
 * @throws SteeringError VECTOR_WIDTH_MISMATCH when the lengths differ
 */
export function dot(a: Vector, b: Vector): number {
  requireSameWidth(a, b);
  // Four running sums: the additions of one do not wait for those of another.
  let sum0 = 0;
  let sum1 = 0;
  let sum2 = 0;
  let sum3 = 0;
  const whole = a.length & ~3;
  let i = 0;
  for (; i < whole; i += 4) {
    sum0 += (a[i] as number) * (b[i] as number);
    sum1 += (a[i + 1] as number) * (b[i + 1] as number);
    sum2 += (a[i + 2] as number) * (b[i + 2] as number);
    sum3 += (a[i + 3] as number) * (b[i + 3] as number);
  }
  for (; i < a.length; i++) sum0 += (a[i] as number) * (b[i] as number);
  return sum0 + sum1 + (sum2 + sum3);
}

/** ‖v‖₂. Any float32 vector stays clear of overflow, since its squares are summed in float64. */
export function norm(v: Vector): number {
  return Math.sqrt(dot(v, v));
}

/**
 * Cosine of the angle between two vectors, −1 to 1; 0 when either has no direction.
 *
 * @throws SteeringError VECTOR_WIDTH_MISMATCH when the lengths differ
 */
export function cosine(a: Vector, b: Vector): number {
  const lengths = norm(a) * norm(b);
  if (lengths < MIN_NORM * MIN_NORM) return 0;
  return Math.max(-1, Math.min(1, dot(a, b) / lengths));
}

/**
 * @param v - [n]
 * @returns v/‖v‖, float32[n], a new array
 * @throws SteeringError DEGENERATE_AXIS when ‖v‖ is below {@link MIN_NORM} or not finite
 */
export function normalize(v: Vector): Float32Array {
  return scaled(v, 1 / requireDirection(v, "vector"));
}

/** factor · v, rounded to float32; a new array. */
export function scaled(v: Vector, factor: number): Float32Array {
  const result = new Float32Array(v.length);
  for (let i = 0; i < v.length; i++) result[i] = factor * (v[i] as number);
  return result;
}

/**
 * Remove from `v` its component along `u` (one Gram–Schmidt step).
 *
 * @param v - direction, [hidden]
 * @param u - axis to remove, [hidden], any non-zero length
 * @returns v − (⟨v,u⟩ / ⟨u,u⟩) u, float32[hidden]; not normalised, a new array
 * @throws SteeringError DEGENERATE_AXIS when ‖u‖ is below {@link MIN_NORM}; VECTOR_WIDTH_MISMATCH
 */
export function removeComponent(v: Vector, u: Vector): Float32Array {
  const result = new Float64Array(v);
  subtractComponent(result, u);
  return new Float32Array(result);
}

/**
 * The same in place and in float64, for callers that go on computing.
 *
 * Subtracts twice: where `v` is almost parallel to `u` the first subtraction leaves rounding errors as large as the
 * remainder, and the second removes them ("twice is enough", Giraud, Langou, Rozložník 2005).
 *
 * @param v - float64[hidden], overwritten
 * @param u - axis to remove, [hidden]
 * @throws SteeringError DEGENERATE_AXIS when ‖u‖ is below {@link MIN_NORM}; VECTOR_WIDTH_MISMATCH
 */
export function subtractComponent(v: Float64Array, u: Vector): void {
  requireSameWidth(v, u);
  const squared = requireDirection(u, "axis") ** 2;
  for (let pass = 0; pass < 2; pass++) addScaled(v, -dot(v, u) / squared, u);
}

/** v += factor · u, in place. */
export function addScaled(v: Float64Array, factor: number, u: Vector): void {
  requireSameWidth(v, u);
  for (let i = 0; i < v.length; i++) v[i] = (v[i] as number) + factor * (u[i] as number);
}

/**
 * Inner products of all pairs of vectors.
 *
 * @param vectors - n vectors of one width
 * @returns float64[n × n], row-major, exactly symmetric
 * @throws SteeringError VECTOR_WIDTH_MISMATCH when the widths differ
 */
export function gramMatrix(vectors: readonly Vector[]): Float64Array {
  const n = vectors.length;
  const gram = new Float64Array(n * n);
  for (const [i, a] of vectors.entries()) {
    for (let j = 0; j <= i; j++) {
      const product = dot(a, vectors[j] as Vector);
      gram[i * n + j] = product;
      gram[j * n + i] = product;
    }
  }
  return gram;
}

/** Whether no element is NaN or infinite. */
export function isFiniteVector(v: Vector): boolean {
  for (let i = 0; i < v.length; i++) if (!Number.isFinite(v[i])) return false;
  return true;
}

function requireSameWidth(a: Vector, b: Vector): void {
  if (a.length !== b.length) {
    throw new SteeringError(
      "VECTOR_WIDTH_MISMATCH",
      `vectors of width ${a.length} and ${b.length} do not go together`,
      {
        width: a.length,
        otherWidth: b.length,
      },
    );
  }
}

function requireDirection(v: Vector, what: string): number {
  const length = norm(v);
  if (!(length >= MIN_NORM) || length === Number.POSITIVE_INFINITY) {
    throw new SteeringError("DEGENERATE_AXIS", `${what} of length ${length} has no direction`, { length });
  }
  return length;
}
