import type { ExtractionMethod } from "./difference-axis.ts";
import { SteeringError } from "./error.ts";
import type { LayerQuality } from "./extraction.ts";
import { CONTROL_VECTOR_FORMATS, type ControlVectorFormat, PRODUCERS, type Producer } from "./formats/producer.ts";

/**
 * The manifest's format says where the vector comes from: 1 for what was extracted here, 2 for what was imported. Extracted
 * vectors keep the layout that they have always had, since their digests are taken over it.
 */
export const VECTOR_FORMAT_VERSION = 1;
export const IMPORTED_FORMAT_VERSION = 2;

/** Widest residual stream and deepest model that a file may speak of; today's largest are 16384 and 126. */
export const MAX_HIDDEN_SIZE = 65_536;
export const MAX_LAYER_COUNT = 512;

/** Longest name, creator and model hint. */
export const MAX_TEXT_LENGTH = 128;

/** Where in a sample the residual was read. */
export type Pooling = "last_prompt_token" | "response_mean";

/** What every version says, wherever it comes from. */
interface CommonManifest {
  /** The concept, 1 to 128 printable characters. */
  readonly name: string;
  /** The weights that the vector belongs to, sha256 in lower-case hex. */
  readonly modelChecksum: string;
  readonly hiddenSize: number;
  /** Blocks of the model. */
  readonly layerCount: number;
  readonly site: "post_block";
  /** Layers that have a direction, ascending. */
  readonly layers: readonly number[];
  /** In the order of `layers`; float32 values. */
  readonly referenceNorms: readonly number[];
  /** Who made it; absent where the registry knows. */
  readonly createdBy?: string;
}

/** A version that was extracted here: how, from what, and what it is worth. */
export interface ExtractedManifest extends CommonManifest {
  readonly formatVersion: typeof VECTOR_FORMAT_VERSION;
  /** The graphs that the activations were captured with, sha256 in lower-case hex. */
  readonly graphDigest: string;
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
}

/** A version that was made elsewhere. Nobody here measured what it is worth: it has no figures of quality. */
export interface ImportedManifest extends CommonManifest {
  readonly formatVersion: typeof IMPORTED_FORMAT_VERSION;
  /** The graphs that it is meant to act in, sha256 in lower-case hex; absent where only the weights are known. */
  readonly graphDigest?: string;
  readonly origin: ImportedOrigin;
}

/** The file that a version was imported from. */
export interface ImportedOrigin {
  readonly kind: "imported";
  readonly format: ControlVectorFormat;
  /** Who wrote the file, as the importer said: it decides which block a direction's number means. */
  readonly producer: Producer;
  /** Of the file as it came, sha256 in lower-case hex. */
  readonly fileDigest: string;
  /** What the file calls its model. */
  readonly modelHint?: string;
  /** Lengths of the directions in the file, in the order of `layers`. */
  readonly norms: readonly number[];
}

/** How a vector version was made, and what it may be used with. */
export type VectorManifest = ExtractedManifest | ImportedManifest;

/** Checks one field's value, and gives it back typed. */
type FieldCheck<T> = (value: unknown, field: string) => T;

/**
 * Read a manifest strictly: every field checked, none missing, none unknown.
 *
 * @param value - what JSON.parse gave
 * @throws SteeringError VECTOR_MANIFEST_INVALID naming the field
 */
export function parseManifest(value: unknown): VectorManifest {
  const manifest = isImported(value)
    ? record<ImportedManifest>("manifest", value, {
        ...COMMON_CHECKS,
        formatVersion: oneOf(IMPORTED_FORMAT_VERSION),
        graphDigest: optional(digest),
        origin,
      })
    : record<ExtractedManifest>("manifest", value, {
        ...COMMON_CHECKS,
        formatVersion: oneOf(VECTOR_FORMAT_VERSION),
        graphDigest: digest,
        method: oneOf("MEAN_DIFF", "PCA_CENTER", "PCA_DIFF"),
        pooling: oneOf("last_prompt_token", "response_mean"),
        extractorVersion: text,
        pairCount: whole(1, Number.MAX_SAFE_INTEGER),
        pairsDigest: digest,
        baselineDigest: digest,
        quality: list(quality),
      });
  const { layers, layerCount } = manifest;
  for (const [i, layer] of layers.entries()) {
    if (layer >= layerCount) fail("layers", `layer ${layer} of a model of ${layerCount}`);
    if (i > 0 && layer <= (layers[i - 1] as number)) fail("layers", "not ascending");
  }
  const perLayer: readonly (readonly [string, readonly unknown[]])[] = [
    ["referenceNorms", manifest.referenceNorms],
    manifest.formatVersion === VECTOR_FORMAT_VERSION
      ? ["quality", manifest.quality]
      : ["origin.norms", manifest.origin.norms],
  ];
  for (const [field, values] of perLayer) if (values.length !== layers.length) fail(field, "not one per layer");
  return manifest;
}

function isImported(value: unknown): boolean {
  return (
    typeof value === "object" &&
    value !== null &&
    (value as { readonly formatVersion?: unknown }).formatVersion === IMPORTED_FORMAT_VERSION
  );
}

const COMMON_CHECKS = {
  name: text,
  modelChecksum: digest,
  hiddenSize: whole(1, MAX_HIDDEN_SIZE),
  layerCount: whole(1, MAX_LAYER_COUNT),
  site: oneOf("post_block"),
  layers: list(whole(0, MAX_LAYER_COUNT - 1)),
  referenceNorms: list(referenceNorm),
  createdBy: optional(text),
};

function origin(value: unknown, field: string): ImportedOrigin {
  return record<ImportedOrigin>(field, value, {
    kind: oneOf("imported"),
    format: oneOf(...CONTROL_VECTOR_FORMATS),
    producer: oneOf(...PRODUCERS),
    fileDigest: digest,
    modelHint: optional(text),
    norms: list(between(Number.MIN_VALUE, Number.MAX_VALUE)),
  });
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
  if (typeof value === "string" && isShortText(value)) return value;
  return fail(field, `not a text of 1 to ${MAX_TEXT_LENGTH} printable characters`);
}

/** Whether a manifest may hold it: 1 to {@link MAX_TEXT_LENGTH} printable characters. */
export function isShortText(value: string): boolean {
  return value.length >= 1 && value.length <= MAX_TEXT_LENGTH && value.isWellFormed() && !/\p{Cc}/u.test(value);
}

function digest(value: unknown, field: string): string {
  if (typeof value === "string" && /^[0-9a-f]{64}$/.test(value)) return value;
  return fail(field, "not a sha256 in lower-case hex");
}

function fail(field: string, problem: string): never {
  throw new SteeringError("VECTOR_MANIFEST_INVALID", `vector manifest: ${field}: ${problem}`, { field });
}
