import type { RopeScaling, RopeSpec } from "./decoder-spec.ts";

/**
 * Rotary position embedding (RoFormer, arXiv:2104.09864) for the first positions of a context.
 *
 * Angles are computed in float64 and rounded once: a float32 product of position and frequency is off by 1e-4 rad
 * at position 1000.
 *
 * @returns cos and sin, float32[positions, rotaryDim / 2], both times the attention factor of the scaling if it has one
 */
export function ropeTables(rope: RopeSpec, positions: number): { cos: Float32Array; sin: Float32Array } {
  const half = rope.rotaryDim / 2;
  const cos = new Float32Array(positions * half);
  const sin = new Float32Array(positions * half);
  const factor = "attentionFactor" in rope.scaling ? rope.scaling.attentionFactor : 1;
  for (const [j, frequency] of ropeFrequencies(rope).entries()) {
    for (let position = 0; position < positions; position++) {
      cos[position * half + j] = factor * Math.cos(position * frequency);
      sin[position * half + j] = factor * Math.sin(position * frequency);
    }
  }
  return { cos, sin };
}

/** Radians per position, number[rotaryDim / 2]: `theta^(-2j / rotaryDim)`, stretched as the scaling says. */
export function ropeFrequencies({ theta, rotaryDim, scaling }: RopeSpec): number[] {
  const plain = Array.from({ length: rotaryDim / 2 }, (_, j) => theta ** (-(2 * j) / rotaryDim));
  switch (scaling.kind) {
    case "none":
      return plain;
    case "linear":
      return plain.map((frequency) => frequency / scaling.factor);
    case "llama3":
      return plain.map((frequency) => llama3(frequency, scaling));
    case "yarn":
      return yarn(plain, theta, scaling);
    case "longrope": {
      const { factors } = scaling;
      if (factors.length !== plain.length) {
        throw new RangeError(
          `${factors.length} factors for ${plain.length} frequencies of ${rotaryDim} rotated elements`,
        );
      }
      return plain.map((frequency, j) => frequency / (factors[j] as number));
    }
  }
}

type Scaling<Kind extends RopeScaling["kind"]> = Extract<RopeScaling, { readonly kind: Kind }>;

/** Wavelengths over `originalContext / lowFreqFactor` are stretched, under `originalContext / highFreqFactor` kept. */
function llama3(frequency: number, scaling: Scaling<"llama3">): number {
  const turns = (scaling.originalContext * frequency) / (2 * Math.PI);
  const kept = clamp((turns - scaling.lowFreqFactor) / (scaling.highFreqFactor - scaling.lowFreqFactor));
  return kept * frequency + (1 - kept) * (frequency / scaling.factor);
}

/** Frequencies that turn over `betaFast` times in the original context are kept, under `betaSlow` times stretched. */
function yarn(plain: readonly number[], theta: number, scaling: Scaling<"yarn">): number[] {
  const rotaryDim = 2 * plain.length;
  /** Index of the frequency, fractional, that makes so many turns in the original context. */
  const indexOf = (turns: number) =>
    (rotaryDim * Math.log(scaling.originalContext / (turns * 2 * Math.PI))) / (2 * Math.log(theta));
  const [first, last] = [indexOf(scaling.betaFast), indexOf(scaling.betaSlow)];
  const low = Math.max(scaling.truncate ? Math.floor(first) : first, 0);
  const high = Math.min(scaling.truncate ? Math.ceil(last) : last, rotaryDim - 1);
  // As the reference has it, so that a range without extent becomes a step.
  const extent = high === low ? 0.001 : high - low;
  return plain.map((frequency, j) => {
    const stretched = clamp((j - low) / extent);
    return (1 - stretched) * frequency + stretched * (frequency / scaling.factor);
  });
}

function clamp(share: number): number {
  return Math.min(Math.max(share, 0), 1);
}
