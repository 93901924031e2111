import { stat } from "node:fs/promises";
import { homedir } from "node:os";
import { basename, dirname, isAbsolute, join, resolve } from "node:path";
import { ModelPackageError } from "../errors.ts";

/**
 * Names of models: plain file names that need no quotes. No leading dot, since what is hidden in the directory is
 * unfinished or on its way out.
 */
const MODEL_NAME = /^[A-Za-z0-9][A-Za-z0-9._+-]{0,127}$/;

export function isModelName(name: string): boolean {
  return MODEL_NAME.test(name);
}

/** What decides where models are kept. */
export interface ModelsEnvironment {
  /** `PERSONA_MODELS`: the directory itself. */
  readonly models: string | undefined;
  /** `XDG_DATA_HOME`; a relative one is no valid setting and is ignored, as its specification asks. */
  readonly dataHome: string | undefined;
  /** Relative paths start here. */
  readonly cwd: string;
}

/** Where models are kept by name: PERSONA_MODELS, else `persona-mesh/models` in the user's data folder. */
export function modelsDirectory({ models, dataHome, cwd }: ModelsEnvironment): string {
  if (models) return resolve(cwd, models);
  const data = dataHome !== undefined && isAbsolute(dataHome) ? dataHome : join(homedir(), ".local", "share");
  return join(data, "persona-mesh", "models");
}

/**
 * The directory that a model argument means: a path, or the name of a model in the models directory.
 *
 * It is a path where it contains a separator or where such a directory exists, so that a model can never be hidden by
 * another of the same name elsewhere; `./NAME` is always a path.
 *
 * @returns an absolute path
 * @throws ModelPackageError MODEL_PACKAGE_NOT_FOUND when it can only be a name, and no model has it
 */
export async function resolveModel(argument: string, environment: ModelsEnvironment): Promise<string> {
  const path = resolve(environment.cwd, argument);
  if (!isModelName(argument) || (await isDirectory(path))) return path;
  const directory = modelsDirectory(environment);
  const named = join(directory, argument);
  if (await isDirectory(named)) return named;
  throw new ModelPackageError(
    "MODEL_PACKAGE_NOT_FOUND",
    `there is no directory "${argument}" here, and no model of that name in "${directory}"`,
  );
}

/**
 * The name that a checkpoint's directory gives its model: the directory's own, or the repository's for a snapshot in the
 * Hub's cache, whose directories are named by revision.
 *
 * @param directory - absolute
 * @returns undefined when nothing of it can be a name
 */
export function modelNameOf(directory: string): string | undefined {
  const snapshots = dirname(directory);
  const repository = basename(dirname(snapshots));
  const isCached = basename(snapshots) === "snapshots" && repository.startsWith("models--");
  const name = isCached ? (repository.split("--").at(-1) ?? "") : basename(directory);
  const plain = name.replace(/[^A-Za-z0-9._+-]+/g, "-").replace(/^[^A-Za-z0-9]+/, "");
  return isModelName(plain) ? plain : undefined;
}

async function isDirectory(path: string): Promise<boolean> {
  return stat(path).then(
    (info) => info.isDirectory(),
    () => false,
  );
}
