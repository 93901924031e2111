import { encodeVector, type VectorManifest } from "@persona-mesh/steering";

export interface VersionShape {
  readonly modelChecksum: string;
  readonly graphDigest: string;
  readonly hiddenSize: number;
  readonly layerCount: number;
  readonly layers: readonly number[];
}

/** Canonical bytes of a version with directions of no meaning, so small in effect that text stays text. */
export function randomVersion({ layers, ...shape }: VersionShape, name: string, seed: number): Uint8Array {
  const digest = seed.toString(16).padStart(64, "0");
  const manifest: VectorManifest = {
    formatVersion: 1,
    name,
    ...shape,
    site: "post_block",
    layers,
    referenceNorms: layers.map(() => 1),
    method: "MEAN_DIFF",
    pooling: "last_prompt_token",
    extractorVersion: "bench",
    pairCount: 8,
    pairsDigest: digest,
    baselineDigest: digest,
    quality: layers.map(() => ({
      pairwiseCosine: 0.5,
      auc: 1,
      rightSignShare: 1,
      splitHalfCosine: 0.9,
      normBefore: 1,
      removedCosine: 0,
    })),
  };
  const directions = layers.map((layer): [number, Float32Array] => {
    const values = Float32Array.from({ length: shape.hiddenSize }, (_, i) => Math.sin((i + 1) * (layer + 1) + seed));
    const length = Math.hypot(...values);
    return [layer, values.map((value) => value / length)];
  });
  return encodeVector({ manifest, directions: new Map(directions) });
}
