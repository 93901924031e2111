import { open } from "node:fs/promises";
import { join } from "node:path";
import { buildGraphs } from "../graph/index.ts";
import { sha256Hex } from "../package/digests.ts";
import { checkLayout, verifiedBytes, verifyFile } from "../package/load-package.ts";
import type { ModelManifest } from "../package/manifest.ts";
import { IMPORTER } from "../package/package-parts.ts";
import { verifyWeights } from "../package/verify-weights.ts";
import { CheckFailure, type CheckProgress, CheckSkipped, type Finding } from "./check.ts";

/** Weights read at once. */
const PIECE_BYTES = 8 << 20;

const REIMPORT = "To have the graphs built anew, import the checkpoint again with --overwrite";

/** A package on disk, as its manifest describes it. */
export interface PackageOnDisk {
  /** Absolute path. */
  readonly directory: string;
  readonly manifest: ModelManifest;
}

interface CheckOptions {
  readonly signal?: AbortSignal;
  readonly threads?: number;
}

/** Every file and every tensor has the bytes that the manifest says; each one that has not is named. */
export async function checkFiles(
  { directory, manifest }: PackageOnDisk,
  options: CheckOptions,
  progress: CheckProgress,
): Promise<Finding> {
  const total = verifiedBytes(manifest);
  let done = 0;
  const problems: string[] = [];
  const collect = (error: unknown) => {
    options.signal?.throwIfAborted();
    problems.push((error as Error).message);
  };
  for (const [name, expected] of Object.entries(manifest.files)) {
    await verifyFile(join(directory, name), name, expected, options.signal).catch(collect);
    done += expected.bytes;
    progress(done, total);
  }
  const onBytes = (bytes: number) => {
    done += bytes;
    progress(done, total);
  };
  await verifyWeights(join(directory, manifest.weightsFile), manifest.weights, { ...options, onBytes }).catch(collect);
  const files = Object.keys(manifest.files).length + 1;
  const figures = { files, bytes: total, wrong: problems.length };
  if (problems.length > 0) throw new CheckFailure(problems.join("; "), figures);
  return { message: `${files} files are what the manifest says`, figures };
}

/** Model checksum, graph digest and tokenizer digest follow from the parts that the manifest lists. */
export async function checkIdentities({ manifest }: PackageOnDisk): Promise<Finding> {
  checkLayout(manifest);
  const { modelChecksum, graphDigest, tokenizerDigest } = manifest;
  return {
    message: `model ${modelChecksum.slice(0, 12)}, graphs ${graphDigest.slice(0, 12)}, tokenizer ${tokenizerDigest.slice(0, 12)}`,
    figures: { modelChecksum, graphDigest, tokenizerDigest },
  };
}

/** No weight and no scale is NaN or infinite. */
export async function checkWeights({ directory, manifest }: PackageOnDisk, progress: CheckProgress): Promise<Finding> {
  const scanned = manifest.weights.filter(({ dtype }) => dtype !== "uint8");
  const total = scanned.reduce((sum, { byteLength }) => sum + byteLength, 0);
  const piece = Buffer.alloc(PIECE_BYTES);
  let done = 0;
  await using file = await open(join(directory, manifest.weightsFile), "r");
  for (const { name, dtype, offset, byteLength } of scanned) {
    for (let at = 0; at < byteLength; ) {
      const { bytesRead } = await file.read(piece, 0, Math.min(PIECE_BYTES, byteLength - at), offset + at);
      if (bytesRead === 0) throw new CheckFailure(`the weights end inside tensor "${name}"`);
      const wrong = firstNonFinite(piece.subarray(0, bytesRead), dtype);
      if (wrong >= 0) {
        const element = at / (dtype === "bfloat16" ? 2 : 4) + wrong;
        throw new CheckFailure(`element ${element} of tensor "${name}" is NaN or infinite`, { tensor: name, element });
      }
      at += bytesRead;
      done += bytesRead;
      progress(done, total);
    }
  }
  return {
    message: `all values of ${scanned.length} tensors are finite`,
    figures: { tensors: scanned.length, bytes: total },
  };
}

/** @returns index of the first element whose exponent is all ones, or −1 */
function firstNonFinite(bytes: Buffer, dtype: string): number {
  const { buffer, byteOffset, byteLength } = bytes;
  if (dtype === "bfloat16") {
    return new Uint16Array(buffer, byteOffset, byteLength >> 1).findIndex((bits) => (bits & 0x7f80) === 0x7f80);
  }
  const values = new Uint32Array(buffer, byteOffset, byteLength >> 2);
  // By index: this loop sees every weight of the model.
  for (let i = 0; i < values.length; i++) {
    if (((values[i] as number) & 0x7f800000) === 0x7f800000) return i;
  }
  return -1;
}

/** Every graph is the one that this version builds from the manifest's description, steering included. */
export async function checkGraphs({ manifest }: PackageOnDisk): Promise<Finding> {
  const { spec, precision, weights, weightsFile, graphs, files, provenance } = manifest;
  const built = buildGraphs(spec, weights, weightsFile, precision);
  const missing = [...built.keys()].filter((role) => !Object.hasOwn(graphs, role));
  if (missing.length > 0) throw new CheckFailure(`the package has no graph ${missing.join(", ")}`);
  const other = [...built].flatMap(([role, bytes]) =>
    files[graphs[role] as string]?.sha256 === sha256Hex(bytes) ? [] : [role],
  );
  if (other.length === 0) {
    return { message: `${built.size} graphs are those of the description`, figures: { graphs: built.size } };
  }
  if (provenance.importer !== IMPORTER) {
    throw new CheckSkipped(`made by ${provenance.importer}; ${IMPORTER} builds other graphs. ${REIMPORT}`);
  }
  throw new CheckFailure(
    `${other.join(", ")}: not what ${IMPORTER} builds from the description; changed, or made by older code. ${REIMPORT}`,
  );
}
