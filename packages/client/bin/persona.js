#!/usr/bin/env node
// Runs under any Node that reads modules, so that an old one gets a sentence instead of a syntax error.
import module from "node:module";
import { fileURLToPath } from "node:url";

const NEEDED_MAJOR = 24;

if (Number(process.versions.node.split(".")[0]) < NEEDED_MAJOR) {
  process.stderr.write(
    `persona needs Node.js ${NEEDED_MAJOR} or newer; this is ${process.version} at ${process.execPath}.\n` +
      "From the repository root, `npx persona` runs it with the Node.js that `npm ci` installed.\n",
  );
  process.exitCode = 1;
} else {
  // Halves the time to the first line. Inside the installation, not in a shared folder where others could plant code.
  module.enableCompileCache(fileURLToPath(new URL("../../../node_modules/.cache/persona", import.meta.url)));
  await import("../src/cli/main.ts");
}
