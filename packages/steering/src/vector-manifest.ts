import type { ExtractionMethod } from "./difference-axis.ts";
import { SteeringError } from "./error.ts";
import type { LayerQuality } from "./extraction.ts";

/** The layout of the manifest and of the file around it. */
export const VECTOR_FORMAT_VERSION = 1;

/** Widest residual stream and deepest model that a file may speak of; today's largest are 16384 and 126. */
export const MAX_HIDDEN_SIZE = 65_536;
export const MAX_LAYER_COUNT = 512;

/** Longest name and creator. */
const MAX_TEXT_LENGTH = 128;

/** Where in a sample the residual was read. */
export type Pooling = "last_prompt_token" | "response_mean";

/** How a vector version was made, and what it may be used with. Everything but `createdBy` is needed. */
export interface VectorManifest {
  readonly formatVersion: typeof VECTOR_FORMAT_VERSION;
  /** The concept, 1 to 128 printable characters. */
  readonly name: string;
  /** The weights that the vector belongs to, sha256 in lower-case hex. */
  readonly modelChecksum: string;
  /** The graphs that the activations were captured with, sha256 in lower-case hex. */
  readonly graphDigest: string;
  readonly hiddenSize: number;
  /** Blocks of the model. */
  readonly layerCount: number;
  readonly site: "post_block";
  /** Layers that have a direction, ascending. */
  readonly layers: readonly number[];
  /** In the order of `layers`; float32 values. */
  readonly referenceNorms: readonly number[];
  readonly method: ExtractionMethod;
  readonly pooling: Pooling;
  readonly extractorVersion: string;
  readonly pairCount: number;
  /** Of the contrastive pairs, sha256 in lower-case hex. */
  readonly pairsDigest: string;
  /** Of the baseline, sha256 in lower-case hex. */
  readonly baselineDigest: string;
  /** In the order of `layers`. */
  readonly quality: readonly LayerQuality[];
  /** Who made it; absent where the registry knows. */
  readonly createdBy?: string;
}

/** Checks one field's value, and gives it back typed. */
type FieldCheck<T> = (value: unknown, field: string) => T;

/**
 * Read a manifest strictly: every field checked, none missing, none unknown.
 *
 * @param value - what JSON.parse gave
 * @throws SteeringError VECTOR_MANIFEST_INVALID naming the field
 */
export function parseManifest(value: unknown): VectorManifest {
  const manifest = record<VectorManifest>("manifest", value, {
    formatVersion: oneOf(VECTOR_FORMAT_VERSION),
    name: text,
    modelChecksum: digest,
    graphDigest: digest,
    hiddenSize: whole(1, MAX_HIDDEN_SIZE),
    layerCount: whole(1, MAX_LAYER_COUNT),
    site: oneOf("post_block"),
    layers: list(whole(0, MAX_LAYER_COUNT - 1)),
    referenceNorms: list(referenceNorm),
    method: oneOf("MEAN_DIFF", "PCA_CENTER", "PCA_DIFF"),
    pooling: oneOf("last_prompt_token", "response_mean"),
    extractorVersion: text,
    pairCount: whole(1, Number.MAX_SAFE_INTEGER),
    pairsDigest: digest,
    baselineDigest: digest,
    quality: list(quality),
    createdBy: optional(text),
  });
  const { layers, layerCount, referenceNorms, quality: figures } = manifest;
  for (const [i, layer] of layers.entries()) {
    if (layer >= layerCount) fail("layers", `layer ${layer} of a model of ${layerCount}`);
    if (i > 0 && layer <= (layers[i - 1] as number)) fail("layers", "not ascending");
  }
  if (referenceNorms.length !== layers.length) fail("referenceNorms", "not one per layer");
  if (figures.length !== layers.length) fail("quality", "not one per layer");
  return manifest;
}

function quality(value: unknown, field: string): LayerQuality {
  const cosine = between(-1, 1);
  const share = between(0, 1);
  return record<LayerQuality>(field, value, {
    pairwiseCosine: cosine,
    auc: share,
    rightSignShare: share,
    splitHalfCosine: cosine,
    normBefore: between(0, Number.MAX_VALUE),
    removedCosine: cosine,
  });
}

function record<T extends object>(
  what: string,
  value: unknown,
  checks: { readonly [K in keyof Required<T>]: FieldCheck<T[K]> },
): T {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return fail(what, "not an object");
  const unknown = Object.keys(value).find((key) => !Object.hasOwn(checks, key));
  if (unknown !== undefined) fail(what, `has an unknown field ${JSON.stringify(unknown.slice(0, MAX_TEXT_LENGTH))}`);
  const entries = Object.entries<FieldCheck<unknown>>(checks).flatMap(([key, check]) => {
    const member = Object.hasOwn(value, key) ? (value as Record<string, unknown>)[key] : undefined;
    const checked = check(member, key);
    return checked === undefined ? [] : [[key, checked]];
  });
  return Object.fromEntries(entries);
}

function optional<T>(check: FieldCheck<T>): FieldCheck<T | undefined> {
  return (value, field) => (value === undefined ? undefined : check(value, field));
}

function list<T>(check: FieldCheck<T>): FieldCheck<T[]> {
  return (value, field) => {
    if (!Array.isArray(value) || value.length === 0 || value.length > MAX_LAYER_COUNT) {
      return fail(field, `not a list of 1 to ${MAX_LAYER_COUNT}`);
    }
    return value.map((item, i) => check(item, `${field}[${i}]`));
  };
}

function oneOf<T extends string | number>(...allowed: readonly T[]): FieldCheck<T> {
  return (value, field) =>
    allowed.find((candidate) => candidate === value) ?? fail(field, `not one of ${allowed.join(", ")}`);
}

function whole(least: number, most: number): FieldCheck<number> {
  return (value, field) =>
    Number.isSafeInteger(value) && (value as number) >= least && (value as number) <= most
      ? withoutSign(value as number)
      : fail(field, `not a whole number from ${least} to ${most}`);
}

function between(least: number, most: number): FieldCheck<number> {
  return (value, field) =>
    typeof value === "number" && value >= least && value <= most
      ? withoutSign(value)
      : fail(field, `not a number from ${least} to ${most}`);
}

/** −0 equals 0 everywhere but in the bytes that are digested. */
function withoutSign(value: number): number {
  return value === 0 ? 0 : value;
}

function referenceNorm(value: unknown, field: string): number {
  if (typeof value === "number" && value > 0 && Math.fround(value) === value && Number.isFinite(value)) return value;
  return fail(field, "not a positive float32 number");
}

function text(value: unknown, field: string): string {
  if (
    typeof value === "string" &&
    value.length >= 1 &&
    value.length <= MAX_TEXT_LENGTH &&
    value.isWellFormed() &&
    !/\p{Cc}/u.test(value)
  ) {
    return value;
  }
  return fail(field, `not a text of 1 to ${MAX_TEXT_LENGTH} printable characters`);
}

function digest(value: unknown, field: string): string {
  if (typeof value === "string" && /^[0-9a-f]{64}$/.test(value)) return value;
  return fail(field, "not a sha256 in lower-case hex");
}

function fail(field: string, problem: string): never {
  throw new SteeringError("VECTOR_MANIFEST_INVALID", `vector manifest: ${field}: ${problem}`, { field });
}
