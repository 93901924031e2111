import { randomUUID } from "node:crypto";
import { encodeVector, type VectorManifest } from "@persona-mesh/steering";

/** The model that everything is about: small, for it is never run. */
export const MODEL = { checksum: "c".repeat(64), layers: 4, hidden: 16 } as const;

/** Few of each, so that clients get in each other's way. */
export const TENANTS = ["acme", "globex"] as const;
export const VECTORS = ["calm", "warm"] as const;
export const ALIASES = ["production", "canary"] as const;

/** Bytes of a new version: the same never twice. */
export function randomContent(vector: string, random: () => number): Uint8Array {
  const layer = Math.floor(random() * MODEL.layers);
  const direction = Float32Array.from({ length: MODEL.hidden }, () => random() - 0.5);
  const length = Math.hypot(...direction);
  const digest = randomUUID().replaceAll("-", "").repeat(2);
  const manifest: VectorManifest = {
    formatVersion: 1,
    name: vector,
    modelChecksum: MODEL.checksum,
    graphDigest: "d".repeat(64),
    hiddenSize: MODEL.hidden,
    layerCount: MODEL.layers,
    site: "post_block",
    layers: [layer],
    referenceNorms: [1],
    method: "MEAN_DIFF",
    pooling: "last_prompt_token",
    extractorVersion: "robustness",
    pairCount: 8,
    pairsDigest: digest,
    baselineDigest: digest,
    quality: [
      { pairwiseCosine: 0.5, auc: 1, rightSignShare: 1, splitHalfCosine: 0.9, normBefore: 1, removedCosine: 0 },
    ],
  };
  return encodeVector({ manifest, directions: new Map([[layer, direction.map((value) => value / length)]]) });
}
