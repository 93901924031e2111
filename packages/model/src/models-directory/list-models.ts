import { readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { ModelPackageError } from "../errors.ts";
import { checkLayout, readManifest } from "../package/load-package.ts";
import type { ModelManifest } from "../package/manifest.ts";
import { weightsFileBytes } from "../package/weights-layout.ts";

/** An entry of the models directory. */
export type ListedModel =
  /** The manifest is sound, and every file is there with its size; no file was read. */
  | { readonly kind: "model"; readonly name: string; readonly directory: string; readonly manifest: ModelManifest }
  | {
      readonly kind: "damaged";
      readonly name: string;
      readonly directory: string;
      /** A {@link ModelPackageError}'s, or the system's code where the directory cannot be read. */
      readonly reason: string;
      readonly message: string;
    };

/**
 * Every directory in the models directory, by name. What is damaged, or no package at all, is listed with the reason: a
 * model that silently disappears from a list would be looked for elsewhere.
 *
 * @returns nothing where the directory does not exist
 */
export async function listModels(directory: string): Promise<ListedModel[]> {
  const names = await readdir(directory).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return [];
    throw error;
  });
  const listed: ListedModel[] = [];
  // One after the other: a manifest may have megabytes, and there may be many.
  for (const name of names.sort()) {
    const path = join(directory, name);
    // Hidden ones are imports and removals under way.
    if (name.startsWith(".") || !(await isDirectoryOrBroken(path))) continue;
    listed.push(await listedModel(name, path));
  }
  return listed;
}

async function listedModel(name: string, directory: string): Promise<ListedModel> {
  try {
    const manifest = await readManifest(directory);
    checkLayout(manifest);
    await checkSizes(directory, manifest);
    return { kind: "model", name, directory, manifest };
  } catch (error) {
    const { message } = error as Error;
    const reason = error instanceof ModelPackageError ? error.reason : (error as NodeJS.ErrnoException).code;
    if (reason === undefined) throw error;
    return { kind: "damaged", name, directory, reason, message };
  }
}

async function checkSizes(directory: string, { files, weightsFile, weights }: ModelManifest): Promise<void> {
  const sizes = Object.entries(files).map(([name, { bytes }]) => [name, bytes] as const);
  for (const [name, bytes] of [...sizes, [weightsFile, weightsFileBytes(weights)] as const]) {
    const info = await stat(join(directory, name)).catch(() => undefined);
    if (info?.isFile() && info.size === bytes) continue;
    const found = info?.isFile() ? `has ${info.size} bytes, the manifest says ${bytes}` : "is missing";
    throw new ModelPackageError("MODEL_PACKAGE_CORRUPT", `"${name}" ${found}`);
  }
}

/** A link that leads nowhere counts: it was put there as a model. */
async function isDirectoryOrBroken(path: string): Promise<boolean> {
  return stat(path).then(
    (info) => info.isDirectory(),
    () => true,
  );
}
