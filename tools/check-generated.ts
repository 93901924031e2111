/** Fails when the committed protobuf code is not what `npm run generate` makes of the protos now. */
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

const GENERATED = ["packages/protocol/src/gen", "packages/onnx/src/gen"];

function digestOf(folder: string): string {
  const hash = createHash("sha256");
  const files = readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  for (const path of files.map((entry) => join(entry.parentPath, entry.name)).sort()) {
    hash.update(path).update(readFileSync(path));
  }
  return hash.digest("hex");
}

const before = GENERATED.map(digestOf).join();
execFileSync("npm", ["run", "--silent", "generate"], { stdio: "inherit" });
if (GENERATED.map(digestOf).join() !== before) {
  console.error("Generated code was stale. It has been made anew by `npm run generate`: commit it.");
  process.exit(1);
}
