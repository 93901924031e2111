import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { importCheckpoint, loadPackage, type ModelPackage, resolveModel } from "@persona-mesh/model";
import type { Logger } from "@persona-mesh/service";
import type { WorkerValues } from "./options.ts";

/** The trained checkpoint that comes with the source. */
const STARTER = fileURLToPath(new URL("../../../models/starter", import.meta.url));

/**
 * The package to serve, verified. Without one configured the starter checkpoint is imported, so that a fresh clone serves
 * a real model.
 *
 * @throws ModelPackageError, CheckpointError
 */
export async function openModel({ model, models, dataDir }: WorkerValues, log: Logger): Promise<ModelPackage> {
  if (model !== undefined) {
    const dataHome = process.env["XDG_DATA_HOME"];
    return loadPackage(await resolveModel(model, { models, dataHome, cwd: process.cwd() }));
  }
  const directory = join(dataDir, "models", "starter");
  const { outcome } = await importCheckpoint(STARTER, directory, { overwrite: true });
  if (outcome !== "unchanged") log.info({ directory, outcome }, "imported the starter model");
  return loadPackage(directory);
}
