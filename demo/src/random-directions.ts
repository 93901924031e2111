import { DataType, Mode } from "@persona-mesh/protocol";
import type { VectorVersion } from "@persona-mesh/steering";
import type { Persona } from "./replies.ts";

/**
 * A persona like `version` at the same layers, alpha and norms, but in a random direction: what steering does by its size
 * alone. Inline, so it needs the role `service`.
 *
 * @param seed - the same seed gives the same direction
 */
export function randomPersona(version: VectorVersion, alpha: number, seed: number): Persona {
  const random = normals(seed);
  return inline(version, alpha, "ADD", () => {
    const direction = Float32Array.from({ length: version.manifest.hiddenSize }, random);
    const length = Math.hypot(...direction);
    return direction.map((x) => x / length);
  });
}

/** A version that no registry knows yet, as it would act: for evaluation, with the role `service`. */
export function trialPersona(version: VectorVersion, alpha: number, mode: "ADD" | "ADD_RENORM"): Persona {
  return inline(version, alpha, mode, (layer) => version.directions.get(layer) as Float32Array);
}

function inline(
  { manifest }: VectorVersion,
  alpha: number,
  mode: "ADD" | "ADD_RENORM",
  directionAt: (layer: number) => Float32Array,
): Persona {
  const directions = manifest.layers.map((layer, index) => {
    const unit = directionAt(layer).slice();
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
        mode: mode === "ADD_RENORM" ? Mode.ADD_RENORM : Mode.ADD,
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
