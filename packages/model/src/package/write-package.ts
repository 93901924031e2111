import { writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import type { Checkpoint } from "../checkpoint/checkpoint.ts";
import { modelChecksum } from "../checkpoint/model-checksum.ts";
import { graphDigest, sha256Hex, tokenizerDigest } from "./digests.ts";
import { type ModelManifest, PACKAGE_FILE, PACKAGE_FORMAT, PACKAGE_FORMAT_VERSION } from "./manifest.ts";
import { IMPORTER, type PackageParts } from "./package-parts.ts";
import { type WriteWeightsOptions, writeWeights } from "./weights-writer.ts";

/**
 * Write the files of a package into an empty directory, the manifest last.
 *
 * @throws CheckpointError naming the tensor that cannot be converted; what the file system throws
 */
export async function writePackage(
  directory: string,
  parts: PackageParts,
  checkpoint: Checkpoint,
  options: WriteWeightsOptions,
): Promise<ModelManifest> {
  const { signal } = options;
  const { spec, precision, tokenizer } = parts;
  const weightsPath = join(directory, PACKAGE_FILE.weights);
  const weights = await writeWeights(weightsPath, parts.plan, parts.locations, checkpoint, options);

  const files: ModelManifest["files"] = {};
  const add = async (name: string, data: Uint8Array | string): Promise<string> => {
    const bytes = typeof data === "string" ? Buffer.from(data) : data;
    await writeFile(join(directory, name), bytes, { flag: "wx", ...(signal && { signal }) });
    const sha256 = sha256Hex(bytes);
    files[name] = { bytes: bytes.byteLength, sha256 };
    return sha256;
  };
  const graphs: ModelManifest["graphs"] = {};
  const graphDigests: Record<string, string> = {};
  for (const [role, bytes] of parts.graphs) {
    const name = `${role}.onnx`;
    graphs[role] = name;
    graphDigests[role] = await add(name, bytes);
  }
  const tokenizerDigests: Record<string, string> = {};
  for (const [name, text] of Object.entries(tokenizer.files)) tokenizerDigests[name] = await add(name, text);

  const tensors = await checkpoint.digests(signal === undefined ? {} : { signal });
  const manifest: ModelManifest = {
    format: PACKAGE_FORMAT,
    formatVersion: PACKAGE_FORMAT_VERSION,
    modelChecksum: modelChecksum(spec, tensors),
    graphDigest: graphDigest(graphDigests, weights),
    tokenizerDigest: tokenizerDigest(tokenizerDigests, tokenizer.tokens),
    precision,
    spec,
    weightBytes: weights.reduce((sum, { byteLength }) => sum + byteLength, 0),
    tokens: tokenizer.tokens,
    graphs,
    weightsFile: PACKAGE_FILE.weights,
    weights,
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
