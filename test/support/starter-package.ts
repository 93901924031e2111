import { fileURLToPath } from "node:url";
import { importCheckpoint } from "@persona-mesh/model";

/** The checkpoint of the repository: tests take it as it is and depend on none of its words. */
export const STARTER = fileURLToPath(new URL("../../models/starter", import.meta.url));

/** Import the starter model. @returns the folder of the package */
export async function starterPackage(folder: string): Promise<string> {
  await importCheckpoint(STARTER, folder);
  return folder;
}
