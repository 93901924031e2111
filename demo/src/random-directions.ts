import { DataType } from "@persona-mesh/protocol";
import type { VectorVersion } from "@persona-mesh/steering";
import type { Persona } from "./replies.ts";

/**
 * A persona like `version` at the same layers, alpha and norms, but in a random direction: what steering does by its size
 * alone. Inline, so it needs the role `service`.
 *
 * @param seed - the same seed gives the same direction
 */
export function randomPersona(version: VectorVersion, alpha: number, seed: number): Persona {
  const { manifest } = version;
  const random = normals(seed);
  const directions = manifest.layers.map((layer, index) => {
    const direction = Float32Array.from({ length: manifest.hiddenSize }, random);
    const length = Math.hypot(...direction);
    const unit = direction.map((x) => x / length);
    return {
      layer,
      direction: {
        dataType: DataType.FLOAT32,
        shape: [manifest.hiddenSize],
        data: new Uint8Array(unit.buffer),
      },
      referenceNorm: manifest.referenceNorms[index] as number,
    };
  });
  return {
    selector: {
      case: "inline",
      value: {
        terms: [{ alphaHundredths: Math.round(alpha * 100), modelChecksum: manifest.modelChecksum, directions }],
      },
    },
  };
}

/** Standard normal numbers: Box–Muller over a small deterministic generator (Mulberry32). */
function normals(seed: number): () => number {
  let state = seed | 0;
  const uniform = () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
  return () => Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform());
}
