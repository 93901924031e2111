import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { importCheckpoint, loadPackage } from "@persona-mesh/model";
import type { RunnableModel } from "@persona-mesh/model/runtime";
import { writeComparisonGraphs } from "./random-llama.ts";

const STARTER = fileURLToPath(new URL("../../../models/starter", import.meta.url));

/** The starter model as a package in `directory`, with the bodies that steering is compared with. */
export async function importStarter(directory: string): Promise<RunnableModel> {
  await importCheckpoint(STARTER, join(directory, "starter"));
  const { manifest, weightsPath } = await loadPackage(join(directory, "starter"));
  const { spec, weights } = manifest;
  writeComparisonGraphs(spec, weights, dirname(weightsPath));
  return { spec, weights, weightsPath, graphPath: (role) => join(dirname(weightsPath), `${role}.onnx`) };
}
