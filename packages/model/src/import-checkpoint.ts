import { readdir } from "node:fs/promises";
import { resolve } from "node:path";
import { Checkpoint } from "./checkpoint/checkpoint.ts";
import { ModelPackageError } from "./errors.ts";
import { type PrecisionName, type PrecisionOptions, precisionOf } from "./graph/index.ts";
import { asNoSpace, requireSpace } from "./package/disk-space.ts";
import { copyGuardBaseline } from "./package/guard-baseline.ts";
import { type ImportProgress, ProgressMeter } from "./package/import-progress.ts";
import { clearLeftovers } from "./package/leftovers.ts";
import { isPackage } from "./package/load-package.ts";
import type { ModelManifest } from "./package/manifest.ts";
import { type PackageParts, packageParts } from "./package/package-parts.ts";
import { samePackage } from "./package/same-package.ts";
import { StagedDirectory } from "./package/staged-directory.ts";
import { weightsFileBytes } from "./package/weights-layout.ts";
import type { WriteWeightsOptions } from "./package/weights-writer.ts";
import { writePackage } from "./package/write-package.ts";
import { importTokenizer } from "./tokenizer/import-tokenizer.ts";

/** Choices of an import; those of {@link PrecisionOptions} are for int8 and int4. */
export interface ImportOptions extends PrecisionOptions {
  /**
   * How weights are stored and multiplied.
   *
   * @default "float32"
   */
  readonly precision?: PrecisionName;
  /**
   * Positions that the model is imported for. Changes what a model with LongRoPE computes; for others it is only the most that
   * can be served.
   *
   * @default all that the checkpoint has
   */
  readonly contextTokens?: number;
  /**
   * Put the package in the place of whatever package is in the output directory.
   *
   * @default false
   */
  readonly overwrite?: boolean;
  /**
   * Threads that convert; small models are converted without.
   *
   * @default one per processor
   */
  readonly threads?: number;
  readonly onProgress?: (progress: ImportProgress) => void;
  /** Stops the import; nothing is left behind. */
  readonly signal?: AbortSignal;
}

export interface ImportResult {
  readonly manifest: ModelManifest;
  /** Absolute path of the package. */
  readonly directory: string;
  /** `unchanged`: the output directory already held exactly this package. */
  readonly outcome: "created" | "replaced" | "unchanged";
}

/**
 * Turn a Hugging Face checkpoint into a model package.
 *
 * Weights are streamed: memory stays below three times the largest tensor plus 500 MB, whatever the size of the model. The
 * package appears whole or not at all.
 *
 * @throws CheckpointError naming the file, field or tensor that was refused; ModelPackageError MODEL_PACKAGE_EXISTS when
 *   `outDir` holds something else, MODEL_PACKAGE_NO_SPACE when the disk is too small; RangeError for options that are none
 */
export async function importCheckpoint(
  checkpointDir: string,
  outDir: string,
  options: ImportOptions = {},
): Promise<ImportResult> {
  const { precision: name = "float32", block, embedding, head, contextTokens, signal } = options;
  const precision = precisionOf(name, definedOf({ block, embedding, head }));
  await using checkpoint = await Checkpoint.open(checkpointDir, definedOf({ contextTokens, signal }));
  const parts = packageParts(checkpoint, await importTokenizer(checkpoint), precision);
  const directory = resolve(outDir);
  const progress = new ProgressMeter(options.onProgress);
  const work = { ...definedOf({ threads: options.threads, signal }), memory: bufferMemory(checkpoint) };

  await clearLeftovers(directory);
  const occupant = await occupantOf(directory);
  if (occupant === "other") throw existing(`"${outDir}" exists and is not a model package. Choose another directory.`);
  if (occupant === "package") {
    const present = await samePackage(directory, parts, checkpoint, work, progress);
    if (present !== undefined) {
      await copyGuardBaseline(checkpointDir, directory);
      return { manifest: present, directory, outcome: "unchanged" };
    }
    if (options.overwrite !== true) {
      throw existing(`"${outDir}" holds another model package. Choose another directory, or ask to overwrite it.`);
    }
  }
  progress.begin("converting", sourceBytes(parts, checkpoint));
  const manifest = await place(directory, occupant === "package", parts, checkpoint, {
    ...work,
    onBytes: progress.add,
  }).catch((error: unknown) => {
    throw asNoSpace(error);
  });
  return { manifest, directory, outcome: occupant === "package" ? "replaced" : "created" };
}

/** Write the package beside its place, then put it there. */
async function place(
  directory: string,
  replace: boolean,
  parts: PackageParts,
  checkpoint: Checkpoint,
  options: WriteWeightsOptions,
): Promise<ModelManifest> {
  await requireSpace(directory, weightsFileBytes(parts.locations));
  await using staged = await StagedDirectory.create(directory);
  const manifest = await writePackage(staged.path, parts, checkpoint, options);
  await copyGuardBaseline(checkpoint.files.directory, staged.path);
  options.signal?.throwIfAborted();
  await staged.commit(replace).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== "ENOTEMPTY" && error.code !== "EEXIST" && error.code !== "ENOTDIR") throw error;
    throw existing(`"${directory}" came into being during the import.`);
  });
  return manifest;
}

/** Of the bound on memory, what the buffers of all threads may take: the rest is for code, tokenizer, and garbage. */
function bufferMemory(checkpoint: Checkpoint): number {
  const largest = checkpoint.tensors.values().reduce((most, { byteLength }) => Math.max(most, byteLength), 0);
  return 2 * largest + 300e6;
}

/** Bytes that are read to convert all weights; a tied head in a format of its own reads the embedding again. */
function sourceBytes({ plan }: PackageParts, checkpoint: Checkpoint): number {
  const sources = plan.flatMap(({ sources }) => sources);
  return sources.reduce((sum, { name }) => sum + checkpoint.tensor(name).byteLength, 0);
}

/** What stands where a package is to be written; an empty directory is nothing. */
async function occupantOf(directory: string): Promise<"nothing" | "package" | "other"> {
  const names = await readdir(directory).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return [];
    if (error.code === "ENOTDIR") return undefined;
    throw error;
  });
  if (names === undefined) return "other";
  if (names.length === 0) return "nothing";
  // Only what says that it is a package is ever replaced: a mistyped path must not cost anyone their files.
  return (await isPackage(directory)) ? "package" : "other";
}

function existing(message: string): ModelPackageError {
  return new ModelPackageError("MODEL_PACKAGE_EXISTS", message);
}

type Defined<T> = { [Key in keyof T]?: Exclude<T[Key], undefined> };

/** The fields that have a value: an absent option and an undefined one are the same to callers. */
function definedOf<T extends object>(options: T): Defined<T> {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as Defined<T>;
}
