import { encodeVector, type VectorVersion, versionDigest } from "../vector-file.ts";
import { MIN_NORM, norm, scaled } from "../vector-math.ts";
import { refuse } from "./refuse.ts";

/**
 * What of a version goes into a foreign file: each direction times its reference norm. Other programs add
 * `coefficient · direction`, so that their coefficient is our alpha, a share of the model's own residual norm.
 */
export interface ExportedVersion {
  /** sha256 of the canonical bytes, which the file names. */
  readonly digest: string;
  /** Ascending by layer; float32[hidden] each. */
  readonly directions: readonly { readonly layer: number; readonly values: Float32Array }[];
}

/** Keys that say what the file was made of, beside what its format asks for. */
export function ownKeys({ manifest }: VectorVersion, digest: string): readonly (readonly [string, string])[] {
  return [
    ["persona_mesh.name", manifest.name],
    ["persona_mesh.version", digest],
    ["persona_mesh.model_checksum", manifest.modelChecksum],
  ];
}

/** @throws SteeringError as `encodeVector`; DEGENERATE_AXIS where a reference norm is so small that nothing is left */
export function exportedVersion(version: VectorVersion): ExportedVersion {
  const digest = versionDigest(encodeVector(version));
  const { layers, referenceNorms } = version.manifest;
  const directions = layers.map((layer, i) => {
    const values = scaled(version.directions.get(layer) as Float32Array, referenceNorms[i] as number);
    if (norm(values) < MIN_NORM) {
      refuse("DEGENERATE_AXIS", `layer ${layer}: nothing is left at reference norm ${referenceNorms[i]}`, { layer });
    }
    return { layer, values };
  });
  return { digest, directions };
}
