import type { RopeSpec } from "./decoder-spec.ts";

/**
 * Rotary position embedding (RoFormer, arXiv:2104.09864) for the first positions of a context.
 *
 * Angles are computed in float64 and rounded once: a float32 product of position and frequency is off by 1e-4 rad
 * at position 1000.
 *
 * @returns cos and sin, float32[positions, rotaryDim / 2]; frequency j is `theta^(-2j / rotaryDim)`
 */
export function ropeTables(rope: RopeSpec, positions: number): { cos: Float32Array; sin: Float32Array } {
  const half = rope.rotaryDim / 2;
  const cos = new Float32Array(positions * half);
  const sin = new Float32Array(positions * half);
  for (let j = 0; j < half; j++) {
    const frequency = rope.theta ** (-(2 * j) / rope.rotaryDim);
    for (let position = 0; position < positions; position++) {
      cos[position * half + j] = Math.cos(position * frequency);
      sin[position * half + j] = Math.sin(position * frequency);
    }
  }
  return { cos, sin };
}
