import { open, readdir, writeFile } from "node:fs/promises";
import { basename, join, resolve } from "node:path";
import { Checkpoint } from "./checkpoint/checkpoint.ts";
import { modelChecksum } from "./checkpoint/model-checksum.ts";
import { ModelPackageError } from "./errors.ts";
import { buildGraphs, FLOAT32, planWeights } from "./graph/index.ts";
import { graphDigest, sha256Hex, tokenizerDigest } from "./package/digests.ts";
import { isPackage, loadPackage } from "./package/load-package.ts";
import { type ModelManifest, PACKAGE_FILE, PACKAGE_FORMAT, PACKAGE_FORMAT_VERSION } from "./package/manifest.ts";
import { StagedDirectory } from "./package/staged-directory.ts";
import { placeWeights, writeWeights } from "./package/weights-writer.ts";
import { type ImportedTokenizer, importTokenizer } from "./tokenizer/import-tokenizer.ts";

/** Names what wrote a package; raised when the same checkpoint would give other files. */
const IMPORTER = "persona-mesh/0.1.0";

export interface ImportProgress {
  readonly phase: "checking" | "converting" | "verifying";
  /** Bytes of this phase. */
  readonly done: number;
  readonly total: number;
}

export interface ImportOptions {
  /**
   * Put the package in the place of whatever package is in the output directory.
   *
   * @default false
   */
  readonly overwrite?: boolean;
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
 * Reads and writes tensor by tensor: memory stays near two of the largest. The package appears whole or not at all.
 *
 * @throws CheckpointError naming the file, field or tensor that was refused; ModelPackageError MODEL_PACKAGE_EXISTS when
 *   `outDir` holds something else
 */
export async function importCheckpoint(
  checkpointDir: string,
  outDir: string,
  options: ImportOptions = {},
): Promise<ImportResult> {
  await using checkpoint = await Checkpoint.open(checkpointDir);
  const tokenizer = await importTokenizer(checkpoint);
  const directory = resolve(outDir);
  const occupant = await occupantOf(directory);
  if (occupant === "package") {
    const present = await samePackage(directory, checkpoint, tokenizer, options);
    if (present !== undefined) return { manifest: present, directory, outcome: "unchanged" };
    if (options.overwrite !== true) {
      throw existing(`"${outDir}" holds another model package. Choose another directory, or ask to overwrite it.`);
    }
  }
  if (occupant === "other") throw existing(`"${outDir}" exists and is not a model package. Choose another directory.`);
  await using staged = await StagedDirectory.create(directory);
  const manifest = await writePackage(staged.path, checkpoint, tokenizer, options);
  await staged.commit(occupant === "package").catch((error: NodeJS.ErrnoException) => {
    if (error.code !== "ENOTEMPTY" && error.code !== "EEXIST" && error.code !== "ENOTDIR") throw error;
    throw existing(`"${outDir}" came into being during the import.`);
  });
  return { manifest, directory, outcome: occupant === "package" ? "replaced" : "created" };
}

async function writePackage(
  directory: string,
  checkpoint: Checkpoint,
  tokenizer: ImportedTokenizer,
  { signal, onProgress }: ImportOptions,
): Promise<ModelManifest> {
  const { spec } = checkpoint.config;
  const files: ModelManifest["files"] = {};
  const add = async (name: string, data: Uint8Array | string) => {
    const bytes = typeof data === "string" ? Buffer.from(data) : data;
    await writeFile(join(directory, name), bytes, { flag: "wx", ...(signal && { signal }) });
    files[name] = { bytes: bytes.byteLength, sha256: sha256Hex(bytes) };
  };

  const plan = planWeights(spec, checkpoint.config.source);
  const locations = placeWeights(plan);
  const total = locations.reduce((sum, { byteLength }) => sum + byteLength, 0);
  let done = 0;
  const file = await open(join(directory, PACKAGE_FILE.weights), "wx");
  let written: Awaited<ReturnType<typeof writeWeights>>;
  try {
    written = await writeWeights(file, plan, locations, checkpoint, {
      ...(signal && { signal }),
      onTensor: (_, bytes) => {
        done += bytes;
        onProgress?.({ phase: "converting", done, total });
      },
    });
  } finally {
    await file.close();
  }
  files[PACKAGE_FILE.weights] = { bytes: written.bytes, sha256: written.sha256 };

  const graphs: ModelManifest["graphs"] = {};
  for (const [role, bytes] of buildGraphs(spec, locations, PACKAGE_FILE.weights)) {
    graphs[role] = `${role}.onnx`;
    await add(graphs[role], bytes);
  }
  for (const [name, text] of Object.entries(tokenizer.files)) await add(name, text);

  const sha256Of = (name: string) => (files[name] as { sha256: string }).sha256;
  const tensors = await checkpoint.digests({ ...(signal && { signal }) });
  const manifest: ModelManifest = {
    format: PACKAGE_FORMAT,
    formatVersion: PACKAGE_FORMAT_VERSION,
    modelChecksum: modelChecksum(spec, tensors),
    graphDigest: graphDigest(
      Object.fromEntries(Object.entries(graphs).map(([role, name]) => [role, sha256Of(name)])),
      written.weights,
    ),
    tokenizerDigest: tokenizerDigest(
      Object.fromEntries(Object.keys(tokenizer.files).map((name) => [name, sha256Of(name)])),
      tokenizer.tokens,
    ),
    precision: FLOAT32,
    spec,
    weightBytes: total,
    tokens: tokenizer.tokens,
    graphs,
    weightsFile: PACKAGE_FILE.weights,
    weights: written.weights,
    files,
    provenance: {
      source: basename(checkpoint.files.directory),
      importer: IMPORTER,
      createdAt: new Date().toISOString(),
      tensors: tensors.map((tensor) => ({ ...tensor, shape: [...tensor.shape] })),
    },
  };
  await writeFile(join(directory, PACKAGE_FILE.manifest), `${JSON.stringify(manifest, null, 2)}\n`, { flag: "wx" });
  return manifest;
}

/**
 * The manifest of the package in `directory` if importing `checkpoint` would make the same one again, and every file of
 * it is whole.
 */
async function samePackage(
  directory: string,
  checkpoint: Checkpoint,
  tokenizer: ImportedTokenizer,
  { signal, onProgress }: ImportOptions,
): Promise<ModelManifest | undefined> {
  const present = await loadPackage(directory, {
    ...(signal && { signal }),
    onProgress: (done, total) => onProgress?.({ phase: "verifying", done, total }),
  }).catch((error: unknown) => {
    if (error instanceof ModelPackageError) return undefined;
    throw error;
  });
  if (present === undefined) return undefined;
  const { manifest } = present;
  const { spec } = checkpoint.config;
  const locations = placeWeights(planWeights(spec, checkpoint.config.source));
  const graphs = [...buildGraphs(spec, locations, manifest.weightsFile)];
  const sameFiles = [
    ...graphs.map(([role, bytes]) => manifest.files[manifest.graphs[role] ?? ""]?.sha256 === sha256Hex(bytes)),
    ...Object.entries(tokenizer.files).map(([name, text]) => manifest.files[name]?.sha256 === sha256Hex(text)),
    Object.keys(manifest.graphs).length === graphs.length,
    JSON.stringify(manifest.tokens) === JSON.stringify(tokenizer.tokens),
    JSON.stringify(manifest.weights.map(({ sha256: _, ...location }) => location)) === JSON.stringify(locations),
    manifest.provenance.importer === IMPORTER,
  ];
  if (sameFiles.includes(false)) return undefined;
  let done = 0;
  const tensors = await checkpoint.digests({
    ...(signal && { signal }),
    onBytes: (bytes) => {
      done += bytes;
      onProgress?.({ phase: "checking", done, total: checkpoint.tensorBytes });
    },
  });
  return modelChecksum(spec, tensors) === manifest.modelChecksum ? manifest : undefined;
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
