import { readFile, realpath, stat } from "node:fs/promises";
import { join } from "node:path";
import { isDeepStrictEqual } from "node:util";
import { modelChecksum } from "../checkpoint/model-checksum.ts";
import { ModelPackageError } from "../errors.ts";
import { type GraphRole, planWeights } from "../graph/index.ts";
import { fileDigest, graphDigest, tokenizerDigest } from "./digests.ts";
import { type ModelManifest, PACKAGE_FILE, PACKAGE_FORMAT, parseManifest } from "./manifest.ts";
import { verifyWeights } from "./verify-weights.ts";
import { placeWeights } from "./weights-layout.ts";

/** Largest manifest read: 10,000 tensors take about 4 MB. */
const MAX_MANIFEST_BYTES = 64 * 1024 * 1024;

/** A model package whose every byte agrees with its manifest. */
export interface ModelPackage {
  /** Absolute path. */
  readonly directory: string;
  readonly manifest: ModelManifest;
  readonly weightsPath: string;
  /** @throws ModelPackageError MODEL_PACKAGE_CORRUPT when the package has no such graph */
  graphPath(role: GraphRole): string;
}

export interface LoadPackageOptions {
  readonly signal?: AbortSignal;
  /**
   * Threads that read the weights; small ones are read without.
   *
   * @default one per processor
   */
  readonly threads?: number;
  /** Called after each step with the bytes verified so far and in all. */
  readonly onProgress?: (done: number, total: number) => void;
}

/**
 * Open a model package and verify all of it: sizes and digests of every file and tensor, the padding between them, and the
 * three identities in the manifest.
 *
 * Reads every file once, in parallel; with the hash instructions of current processors about 1.8 GB/s on each.
 *
 * @throws ModelPackageError MODEL_PACKAGE_NOT_FOUND, MODEL_PACKAGE_VERSION_UNSUPPORTED, or MODEL_PACKAGE_CORRUPT naming
 *   the file or tensor and both digests
 */
export async function loadPackage(directory: string, options: LoadPackageOptions = {}): Promise<ModelPackage> {
  const absolute = await realpath(directory).catch(() => {
    throw new ModelPackageError("MODEL_PACKAGE_NOT_FOUND", `model package "${directory}" does not exist`);
  });
  const manifest = await readManifest(absolute);
  checkLayout(manifest);

  const weightsPath = join(absolute, manifest.weightsFile);
  const total = verifiedBytes(manifest);
  let done = 0;
  const onBytes = (bytes: number) => {
    done += bytes;
    options.onProgress?.(done, total);
  };
  for (const [name, expected] of Object.entries(manifest.files)) {
    await verifyFile(join(absolute, name), name, expected, options.signal);
    onBytes(expected.bytes);
  }
  await verifyWeights(weightsPath, manifest.weights, { ...options, onBytes });
  return {
    directory: absolute,
    manifest,
    weightsPath,
    graphPath: (role) => {
      const file = Object.hasOwn(manifest.graphs, role) ? manifest.graphs[role] : undefined;
      if (file === undefined) {
        throw corrupt(`the package has no graph "${role}"; import its checkpoint again with --overwrite`);
      }
      return join(absolute, file);
    },
  };
}

/**
 * Read a package's manifest without verifying the files it describes.
 *
 * @throws ModelPackageError MODEL_PACKAGE_NOT_FOUND, MODEL_PACKAGE_VERSION_UNSUPPORTED, MODEL_PACKAGE_CORRUPT
 */
export async function readManifest(directory: string): Promise<ModelManifest> {
  const path = join(directory, PACKAGE_FILE.manifest);
  const info = await stat(path).catch(() => undefined);
  if (!info?.isFile()) {
    throw new ModelPackageError(
      "MODEL_PACKAGE_NOT_FOUND",
      `"${directory}" is not a model package: it has no "${PACKAGE_FILE.manifest}". ` +
        `"persona model import" makes one of a checkpoint.`,
    );
  }
  if (info.size > MAX_MANIFEST_BYTES) throw corrupt(`"${PACKAGE_FILE.manifest}" has ${info.size} bytes`);
  return parseManifest(await readFile(path, "utf8"));
}

/** Bytes that {@link loadPackage} reads of a package with this manifest: all but padding. */
export function verifiedBytes({ files, weights }: ModelManifest): number {
  return (
    Object.values(files).reduce((sum, file) => sum + file.bytes, 0) +
    weights.reduce((sum, { byteLength }) => sum + byteLength, 0)
  );
}

/** Whether a directory holds a model package, whole or damaged, of this format version or another. */
export async function isPackage(directory: string): Promise<boolean> {
  try {
    await readManifest(directory);
    return true;
  } catch (error) {
    if (!(error instanceof ModelPackageError)) throw error;
    const text = await readFile(join(directory, PACKAGE_FILE.manifest), "utf8").catch(() => "");
    return text.includes(`"${PACKAGE_FORMAT}"`);
  }
}

/** Names of a package's tokenizer files, those that are there. */
export function tokenizerFiles(files: Readonly<Record<string, unknown>>): string[] {
  return [PACKAGE_FILE.tokenizer, PACKAGE_FILE.tokenizerConfig, PACKAGE_FILE.chatTemplate].filter((name) =>
    Object.hasOwn(files, name),
  );
}

/**
 * What a manifest says must fit together before any file is read.
 *
 * @throws ModelPackageError MODEL_PACKAGE_CORRUPT naming the field, file or tensor
 */
export function checkLayout(manifest: ModelManifest): void {
  const { files, graphs, weights, provenance, spec } = manifest;
  const needed = [PACKAGE_FILE.tokenizer, PACKAGE_FILE.tokenizerConfig, ...Object.values(graphs)];
  for (const name of needed) {
    if (!Object.hasOwn(files, name)) throw corrupt(`the manifest lists no digest for "${name}"`);
  }
  checkWeights(manifest);

  const digestOf = (name: string) => files[name]?.sha256 as string;
  const byRole = Object.fromEntries(Object.entries(graphs).map(([role, name]) => [role, digestOf(name)]));
  const byName = Object.fromEntries(tokenizerFiles(files).map((name) => [name, digestOf(name)]));
  compare("graphDigest", manifest.graphDigest, graphDigest(byRole, weights));
  compare("tokenizerDigest", manifest.tokenizerDigest, tokenizerDigest(byName, manifest.tokens));
  compare("modelChecksum", manifest.modelChecksum, modelChecksum(spec, provenance.tensors));
}

/** The tensors are those that the spec has in this precision, in order, each in its place. */
function checkWeights({ spec, precision, weights, weightsFile, weightBytes }: ModelManifest): void {
  // Before the plan is made: a manifest must not be able to ask for one of a thousand million layers.
  if (spec.layers > weights.length) throw corrupt(`"${weightsFile}" has too few tensors for ${spec.layers} layers`);
  const places = placeWeights(planWeights(spec, undefined, precision));
  for (const [index, { sha256: _, ...weight }] of weights.entries()) {
    if (!isDeepStrictEqual(weight, places[index])) {
      throw corrupt(`tensor "${weight.name}" of "${weightsFile}" is misplaced, or not part of this model`);
    }
  }
  if (weights.length < places.length) throw corrupt(`tensor "${places[weights.length]?.name}" is missing`);
  const sum = weights.reduce((bytes, { byteLength }) => bytes + byteLength, 0);
  if (weightBytes !== sum) throw corrupt(`"${PACKAGE_FILE.manifest}": weightBytes is ${weightBytes}, not ${sum}`);
}

function compare(field: string, written: string, computed: string): void {
  if (written === computed) return;
  throw corrupt(`"${PACKAGE_FILE.manifest}": ${field} is ${written}, its parts give ${computed}`);
}

/** @throws ModelPackageError MODEL_PACKAGE_CORRUPT when the file is missing, or of another size or content */
export async function verifyFile(
  path: string,
  name: string,
  expected: { bytes: number; sha256: string },
  signal?: AbortSignal,
): Promise<void> {
  const info = await stat(path).catch(() => undefined);
  if (!info?.isFile()) throw corrupt(`"${name}" is missing`);
  if (info.size !== expected.bytes)
    throw corrupt(`"${name}" has ${info.size} bytes, the manifest says ${expected.bytes}`);
  const { sha256 } = await fileDigest(path, signal);
  if (sha256 !== expected.sha256) throw corrupt(`"${name}" has sha256 ${sha256}, the manifest says ${expected.sha256}`);
}

function corrupt(what: string): ModelPackageError {
  return new ModelPackageError("MODEL_PACKAGE_CORRUPT", what);
}
