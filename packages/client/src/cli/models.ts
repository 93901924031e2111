import { resolve } from "node:path";
import type { ModelsEnvironment } from "@persona-mesh/model";
import type { CommandContext } from "./context.ts";
import type { CliIo } from "./io.ts";

/** The models directory, and a model's directory, as this process's variables and folder say. */
export function modelsEnvironment(io: CliIo): ModelsEnvironment {
  return { models: io.env["PERSONA_MODELS"], dataHome: io.env["XDG_DATA_HOME"], cwd: io.cwd };
}

/**
 * The directory of a model argument: a path, or a name in the models directory.
 *
 * @throws ModelPackageError MODEL_PACKAGE_NOT_FOUND for a name that no model has
 */
export async function modelPath({ io }: CommandContext, argument: string): Promise<string> {
  const { resolveModel } = await import("@persona-mesh/model");
  return resolve(io.cwd, await resolveModel(argument, modelsEnvironment(io)));
}
