import { isDeepStrictEqual } from "node:util";
import type { Checkpoint } from "../checkpoint/checkpoint.ts";
import { modelChecksum } from "../checkpoint/model-checksum.ts";
import { ModelPackageError } from "../errors.ts";
import { sha256Hex } from "./digests.ts";
import type { ProgressMeter } from "./import-progress.ts";
import { loadPackage, readManifest, verifiedBytes } from "./load-package.ts";
import type { ModelManifest } from "./manifest.ts";
import { IMPORTER, type PackageParts } from "./package-parts.ts";
import type { DigestTask } from "./work/digest-range.ts";
import { type RunTasksOptions, runTasks } from "./work/run-tasks.ts";

/**
 * The manifest of the package in `directory`, if importing `checkpoint` would make the same one again and every byte of it
 * is whole. Nothing is converted; what the manifest tells is asked first, then the package is read, then the checkpoint.
 */
export async function samePackage(
  directory: string,
  parts: PackageParts,
  checkpoint: Checkpoint,
  options: Pick<RunTasksOptions<DigestTask>, "threads" | "signal" | "memory">,
  progress: ProgressMeter,
): Promise<ModelManifest | undefined> {
  const manifest = await wholeOrUndefined(() => readManifest(directory));
  if (manifest === undefined || !isMadeOf(manifest, parts)) return undefined;
  progress.begin("verifying", verifiedBytes(manifest), checkpoint.tensorBytes);
  let verified = 0;
  const onProgress = (done: number) => {
    progress.add(done - verified);
    verified = done;
  };
  if ((await wholeOrUndefined(() => loadPackage(directory, { ...options, onProgress }))) === undefined)
    return undefined;

  progress.begin("checking", checkpoint.tensorBytes);
  const tensors = [...checkpoint.tensors.values()];
  const tasks = tensors.map(({ path, offset, byteLength }): DigestTask => {
    return { kind: "digest", path, offset, byteLength, padding: 0 };
  });
  const digests = await runTasks(tasks, { ...options, onBytes: progress.add });
  for (const [index, { name }] of tensors.entries()) checkpoint.record(name, digests[index]?.sha256 as string);
  const read = await checkpoint.digests(options.signal === undefined ? {} : { signal: options.signal });
  return modelChecksum(parts.spec, read) === manifest.modelChecksum ? manifest : undefined;
}

/** Whether a manifest is what these parts would get, as far as it can be told without the weights. */
function isMadeOf(manifest: ModelManifest, { spec, precision, locations, graphs, tokenizer }: PackageParts): boolean {
  const digestOf = (name: string | undefined) => (name === undefined ? undefined : manifest.files[name]?.sha256);
  return (
    manifest.provenance.importer === IMPORTER &&
    isDeepStrictEqual(manifest.spec, spec) &&
    isDeepStrictEqual(manifest.precision, precision) &&
    isDeepStrictEqual(manifest.tokens, tokenizer.tokens) &&
    isDeepStrictEqual(
      manifest.weights.map(({ sha256: _, ...location }) => location),
      locations,
    ) &&
    Object.keys(manifest.files).length === graphs.size + Object.keys(tokenizer.files).length &&
    [...graphs].every(([role, bytes]) => digestOf(manifest.graphs[role]) === sha256Hex(bytes)) &&
    Object.entries(tokenizer.files).every(([name, text]) => digestOf(name) === sha256Hex(text))
  );
}

/** A damaged package is none. */
async function wholeOrUndefined<T>(open: () => Promise<T>): Promise<T | undefined> {
  try {
    return await open();
  } catch (error) {
    if (error instanceof ModelPackageError) return undefined;
    throw error;
  }
}
