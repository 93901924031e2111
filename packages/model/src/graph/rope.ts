import type { DecoderSpec } from "./decoder-spec.ts";

/**
 * Rotary position embedding (RoFormer, arXiv:2104.09864) for every position of the context.
 *
 * Angles are computed in float64 and rounded once: a float32 product of position and frequency is off by 1e-4 rad
 * at position 1000.
 *
 * @returns cos and sin, float32[contextTokens, headDim / 2]; frequency j is `ropeTheta^(-2j / headDim)`
 */
export function ropeCaches(spec: Pick<DecoderSpec, "contextTokens" | "headDim" | "ropeTheta">): {
  cos: Float32Array;
  sin: Float32Array;
} {
  const half = spec.headDim / 2;
  const cos = new Float32Array(spec.contextTokens * half);
  const sin = new Float32Array(spec.contextTokens * half);
  for (let j = 0; j < half; j++) {
    const frequency = spec.ropeTheta ** (-(2 * j) / spec.headDim);
    for (let position = 0; position < spec.contextTokens; position++) {
      cos[position * half + j] = Math.cos(position * frequency);
      sin[position * half + j] = Math.sin(position * frequency);
    }
  }
  return { cos, sin };
}
