import { z } from "zod";
import { ModelPackageError } from "../errors.ts";

/** Names of the files of a package; a graph's file is its role with `.onnx`, beside the weights it refers to. */
export const PACKAGE_FILE = {
  manifest: "manifest.json",
  weights: "weights.bin",
  tokenizer: "tokenizer.json",
  tokenizerConfig: "tokenizer_config.json",
  chatTemplate: "chat_template.jinja",
  /** Beside the package's own files and not of its identity: what unsteered replies are like may be measured anew at any time. */
  guardBaseline: "guard-baseline.json",
} as const;

export const PACKAGE_FORMAT = "persona-mesh/model-package";
export const PACKAGE_FORMAT_VERSION = 2;

/**
 * Tensors start at multiples of this in the weights file: the page size, so that the runtime maps them instead of
 * copying.
 */
export const WEIGHT_ALIGNMENT = 4096;

const sha256 = z.string().regex(/^[0-9a-f]{64}$/, "not a sha256 in hexadecimal");
const count = z.int().min(1);
const bytes = z.int().min(0);
const tokenId = z.int().min(0);
/** Plain names only: a manifest never points out of its directory. */
const fileName = z.string().regex(/^[a-z0-9][a-z0-9._-]{0,63}$/, "not a plain file name");
const shape = z.array(bytes).max(8);

const positive = z.number().positive();
const softCap = positive.nullable();

const scalingSchema = z.discriminatedUnion("kind", [
  z.strictObject({ kind: z.literal("none") }),
  z.strictObject({ kind: z.literal("linear"), factor: positive }),
  z.strictObject({
    kind: z.literal("llama3"),
    factor: positive,
    lowFreqFactor: positive,
    highFreqFactor: positive,
    originalContext: count,
  }),
  z.strictObject({
    kind: z.literal("yarn"),
    factor: positive,
    originalContext: count,
    betaFast: positive,
    betaSlow: positive,
    truncate: z.boolean(),
    attentionFactor: positive,
  }),
  z.strictObject({
    kind: z.literal("longrope"),
    factors: z.array(positive).min(1).readonly(),
    attentionFactor: positive,
  }),
]);

const specSchema = z.strictObject({
  architecture: z.string().min(1).max(64),
  layers: count,
  hidden: count,
  heads: count,
  kvHeads: count,
  headDim: count,
  intermediate: count,
  vocabulary: count,
  contextTokens: count,
  normEps: positive,
  normPlusOne: z.boolean(),
  sandwichNorms: z.boolean(),
  embeddingScale: positive,
  tiedEmbeddings: z.boolean(),
  logitSoftCap: softCap,
  activation: z.enum(["silu", "gelu-tanh"]),
  mlpBias: z.boolean(),
  attention: z.strictObject({
    scale: positive,
    qkvBias: z.boolean(),
    outBias: z.boolean(),
    queryKeyNorm: z.boolean(),
    softCap,
  }),
  ropes: z.array(z.strictObject({ theta: positive, rotaryDim: count, scaling: scalingSchema })).readonly(),
  layerKinds: z
    .array(z.strictObject({ window: count.nullable(), rope: bytes.nullable() }))
    .min(1)
    .readonly(),
});

const formatSchema = z.discriminatedUnion("kind", [
  z.strictObject({ kind: z.literal("float32") }),
  z.strictObject({ kind: z.literal("bfloat16") }),
  z.strictObject({
    kind: z.literal("nbits"),
    bits: z.union([z.literal(4), z.literal(8)]),
    block: z.union([z.literal(32), z.literal(128)]),
  }),
]);

const precisionSchema = z.strictObject({
  name: z.enum(["float32", "int8", "int4", "bfloat16"]),
  linear: formatSchema,
  embedding: formatSchema,
  head: formatSchema,
});

const weightSchema = z.strictObject({
  name: z.string().min(1),
  dtype: z.enum(["float32", "bfloat16", "uint8"]),
  shape,
  /** Bytes from the start of the weights file. */
  offset: bytes.multipleOf(WEIGHT_ALIGNMENT),
  byteLength: bytes,
  sha256,
});

const manifestSchema = z.strictObject({
  format: z.literal(PACKAGE_FORMAT),
  formatVersion: z.literal(PACKAGE_FORMAT_VERSION),
  /** Identity of the weights and the computation: see `modelChecksum`. */
  modelChecksum: sha256,
  /** Identity of what is executed: graphs and converted weights. */
  graphDigest: sha256,
  /** Identity of how text becomes tokens. */
  tokenizerDigest: sha256,
  precision: precisionSchema,
  spec: specSchema,
  /** Bytes of all weights, without padding. */
  weightBytes: bytes,
  tokens: z.strictObject({
    /** Starts a sequence; null when the model has no such token. */
    bos: tokenId.nullable(),
    /** Each of them ends a reply. */
    eos: z.array(tokenId),
  }),
  graphs: z.record(z.string().regex(/^[a-z]+(-[a-z]+)*$/), fileName),
  weightsFile: fileName,
  /** Tensors of the weights file in the order of their places: the next multiple of the alignment after the one before. */
  weights: z.array(weightSchema).min(1),
  /**
   * Every file but the manifest and the weights file. That one ends with its last tensor, has zeros between tensors, and is
   * verified by their digests, in parallel.
   */
  files: z.record(fileName, z.strictObject({ bytes, sha256 })),
  /** Where the package came from. Not part of any digest, except that the tensors make the model checksum. */
  provenance: z.strictObject({
    /** Name of the checkpoint's directory, without its path. */
    source: z.string(),
    importer: z.string(),
    createdAt: z.iso.datetime(),
    tensors: z.array(z.strictObject({ name: z.string(), dtype: z.string(), shape, sha256 })),
  }),
});

/** What a model package says about itself; see the schema for each field. */
export type ModelManifest = z.infer<typeof manifestSchema>;

/**
 * @param text - contents of manifest.json
 * @throws ModelPackageError MODEL_PACKAGE_VERSION_UNSUPPORTED for another format version, MODEL_PACKAGE_CORRUPT when a
 *   field is missing or wrong
 */
export function parseManifest(text: string): ModelManifest {
  const corrupt = (what: string, cause?: unknown) =>
    new ModelPackageError("MODEL_PACKAGE_CORRUPT", `"${PACKAGE_FILE.manifest}" ${what}`, { cause });
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw corrupt("is not valid JSON", error);
  }
  const head = z.object({ format: z.literal(PACKAGE_FORMAT), formatVersion: z.int() }).safeParse(value);
  if (!head.success) throw corrupt("is not the manifest of a model package");
  if (head.data.formatVersion !== PACKAGE_FORMAT_VERSION) {
    throw new ModelPackageError(
      "MODEL_PACKAGE_VERSION_UNSUPPORTED",
      `the package has format version ${head.data.formatVersion}; supported: ${PACKAGE_FORMAT_VERSION}. Import the checkpoint again.`,
    );
  }
  const parsed = manifestSchema.safeParse(value);
  if (!parsed.success) {
    const issue = parsed.error.issues[0];
    throw corrupt(`field "${issue?.path.join(".")}": ${issue?.message}`);
  }
  return parsed.data;
}
