import type { VectorVersion } from "../vector-file.ts";
import { IMPORTED_FORMAT_VERSION, type ImportedManifest, parseManifest } from "../vector-manifest.ts";
import type { ControlVector } from "./control-vector.ts";
import { refuse } from "./refuse.ts";

/** What a foreign file cannot say about a version. */
export interface ImportOptions {
  /** The concept, 1 to 128 printable characters. */
  readonly name: string;
  /** The weights that the version is bound to, sha256 in lower-case hex. */
  readonly modelChecksum: string;
  /** The graphs that it is meant for; absent where only the weights are known. */
  readonly graphDigest?: string;
  /** Of every block of the model, as its baseline has them: they give alpha its meaning here. */
  readonly referenceNorms: ArrayLike<number>;
  /** Of the file as it came, sha256 in lower-case hex. */
  readonly fileDigest: string;
  /** Layers to take over. @default all that the file has */
  readonly layers?: readonly number[];
  readonly createdBy?: string;
}

/**
 * Make a version of a control vector. `encodeVector` gives its canonical bytes, and those its digest.
 *
 * The file's own strength does not act: directions are of unit length, and alpha is a share of the model's reference norm as
 * with every version. The lengths in the file are kept in the manifest.
 *
 * @throws SteeringError SHAPE_MISMATCH when there is not one reference norm per block; REFERENCE_NORM_INVALID;
 *   LAYER_NOT_IN_VECTOR; VECTOR_MANIFEST_INVALID
 */
export function importedVersion(vector: ControlVector, options: ImportOptions): VectorVersion<ImportedManifest> {
  const { layerCount, hiddenSize, directions, modelHint } = vector;
  const { referenceNorms, graphDigest, createdBy } = options;
  if (referenceNorms.length !== layerCount) {
    const problem = `${referenceNorms.length} reference norms for a model of ${layerCount} blocks`;
    refuse("SHAPE_MISMATCH", problem, { referenceNorms: referenceNorms.length, layerCount });
  }
  const layers = [...new Set(options.layers ?? directions.keys())].sort((a, b) => a - b);
  const taken = layers.map((layer) => {
    const at = directions.get(layer);
    if (at === undefined)
      return refuse("LAYER_NOT_IN_VECTOR", `the file has no direction at layer ${layer}`, { layer });
    return { layer, ...at, referenceNorm: referenceNormAt(layer, referenceNorms[layer] as number) };
  });
  const manifest: ImportedManifest = {
    formatVersion: IMPORTED_FORMAT_VERSION,
    name: options.name,
    modelChecksum: options.modelChecksum,
    ...(graphDigest === undefined ? {} : { graphDigest }),
    hiddenSize,
    layerCount,
    site: "post_block",
    layers,
    referenceNorms: taken.map(({ referenceNorm }) => referenceNorm),
    origin: {
      kind: "imported",
      format: vector.format,
      producer: vector.producer,
      fileDigest: options.fileDigest,
      ...(modelHint === undefined ? {} : { modelHint }),
      norms: taken.map(({ norm }) => norm),
    },
    ...(createdBy === undefined ? {} : { createdBy }),
  };
  parseManifest(manifest);
  return { manifest, directions: new Map(taken.map(({ layer, direction }) => [layer, direction])) };
}

/** As float32, which is how it travels. */
function referenceNormAt(layer: number, value: number): number {
  const rounded = Math.fround(value);
  if (rounded > 0 && Number.isFinite(rounded)) return rounded;
  return refuse("REFERENCE_NORM_INVALID", `layer ${layer}: reference norm ${value} is not a positive number`, {
    layer,
  });
}
