/** Writes one version in every foreign form into a folder: what `make.py` then reads with other people's libraries. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { WRITTEN } from "../../packages/steering/src/testing/written-files.ts";

const [folder] = process.argv.slice(2);
if (folder === undefined) throw new Error("usage: node write.ts FOLDER");
for (const { name, write } of WRITTEN) writeFileSync(join(folder, name), write());
