import { randomBytes } from "node:crypto";
import { lstat, readdir, rename, rm } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { ModelPackageError } from "../errors.ts";
import { isPackage, readManifest } from "../package/load-package.ts";
import { PACKAGE_FILE } from "../package/manifest.ts";
import { processesThatMap } from "./mapped-by.ts";

/** A package that may be removed. */
export interface RemovableModel {
  /** Absolute path. */
  readonly directory: string;
  /** Of all its files. */
  readonly bytes: number;
  /**
   * Whether it is known that no process has it open: Linux tells of the processes of the same user in the same container,
   * other systems of none.
   */
  readonly isKnownUnused: boolean;
}

/**
 * Make sure that a directory is a package and nothing else, whole or damaged, before it is removed.
 *
 * @param directory - absolute
 * @throws ModelPackageError MODEL_PACKAGE_NOT_FOUND; MODEL_PACKAGE_HAS_OTHER_FILES; MODEL_PACKAGE_IN_USE naming the
 *   processes
 */
export async function checkRemovable(directory: string): Promise<RemovableModel> {
  const info = await lstat(directory).catch(() => undefined);
  if (info === undefined) throw refused("MODEL_PACKAGE_NOT_FOUND", `model package "${directory}" does not exist`);
  if (!info.isDirectory()) {
    throw refused("MODEL_PACKAGE_NOT_FOUND", `"${directory}" is a link or a file, not the directory of a package`);
  }
  if (!(await isPackage(directory))) {
    throw refused("MODEL_PACKAGE_NOT_FOUND", `"${directory}" is not a model package; nothing of it is removed`);
  }
  const known = await packageFiles(directory);
  let bytes = 0;
  for (const name of await readdir(directory)) {
    const file = await lstat(join(directory, name));
    if (!known(name) || !file.isFile()) {
      throw refused(
        "MODEL_PACKAGE_HAS_OTHER_FILES",
        `"${directory}" also holds "${name}", which is not of the package; move it elsewhere first`,
      );
    }
    bytes += file.size;
  }
  const users = await processesThatMap(directory);
  if (users.kind === "known" && users.pids.length > 0) {
    const pids = users.pids.join(", ");
    throw refused("MODEL_PACKAGE_IN_USE", `process ${pids} has "${directory}" open; stop it first`);
  }
  return { directory, bytes, isKnownUnused: users.kind === "known" };
}

/**
 * Remove a package. It disappears at once, under its name, and then its files; a kill in between leaves a hidden
 * directory beside it.
 *
 * @throws as {@link checkRemovable}, which is asked again: time has passed since a person was
 */
export async function removeModel(directory: string): Promise<RemovableModel> {
  const model = await checkRemovable(directory);
  const aside = join(dirname(directory), `.${basename(directory)}.removed-${randomBytes(4).toString("hex")}`);
  await rename(directory, aside);
  await rm(aside, { recursive: true });
  return model;
}

/** Which file names are the package's: those of its manifest, or any that a package has where it cannot be read. */
async function packageFiles(directory: string): Promise<(name: string) => boolean> {
  const manifest = await readManifest(directory).catch((error: unknown) => {
    if (error instanceof ModelPackageError) return undefined;
    throw error;
  });
  if (manifest !== undefined) {
    const { weightsFile, files } = manifest;
    const others: readonly string[] = [PACKAGE_FILE.manifest, PACKAGE_FILE.guardBaseline, weightsFile];
    return (name) => others.includes(name) || Object.hasOwn(files, name);
  }
  const names: readonly string[] = Object.values(PACKAGE_FILE);
  return (name) => names.includes(name) || name.endsWith(".onnx");
}

function refused(reason: ModelPackageError["reason"], message: string): ModelPackageError {
  return new ModelPackageError(reason, message);
}
