import { resolve } from "node:path";
import type { Command } from "commander";
import { CommandContext } from "../context.ts";
import type { CliIo } from "../io.ts";
import { formatBytes, formatMillis, progressOn } from "../progress.ts";
import { describeManifest } from "./model-show.ts";

const HELP = `
Examples:
  $ persona model import models/starter/checkpoint --out .persona/models/starter
  $ persona model import ./checkpoint --out ./package --overwrite --json

The checkpoint is a Hugging Face directory: config.json, model.safetensors, tokenizer.json, tokenizer_config.json. The
package appears whole or not at all; an interrupted import leaves nothing behind.
`;

interface ImportOptions {
  out: string;
  overwrite?: true;
}

export function addModelImport(model: Command, io: CliIo): void {
  model
    .command("import")
    .description("Turn a Hugging Face checkpoint into a model package")
    .argument("<checkpoint-dir>", "Hugging Face checkpoint")
    .requiredOption("--out <dir>", "where the package goes")
    .option("--overwrite", "put it in the place of another package")
    .addHelpText("after", HELP)
    .action((directory: string, _options, self: Command) => importModel(directory, new CommandContext(io, self)));
}

async function importModel(directory: string, context: CommandContext<ImportOptions>): Promise<void> {
  const { io, options, signal } = context;
  // Loaded here, so that the commands that only talk to a worker start without the importer.
  const { importCheckpoint } = await import("@persona-mesh/model");
  const progress = progressOn(io);
  const begun = performance.now();
  const elapsed = () => formatMillis(performance.now() - begun);
  try {
    const result = await importCheckpoint(resolve(io.cwd, directory), resolve(io.cwd, options.out), {
      overwrite: options.overwrite === true,
      signal,
      onProgress: ({ phase, done, total }) =>
        progress.update(`${phase} ${formatBytes(done)} of ${formatBytes(total)}, ${elapsed()}`),
    });
    progress.end();
    const { manifest, outcome } = result;
    if (context.json) {
      const { modelChecksum, graphDigest, tokenizerDigest, precision, weightBytes } = manifest;
      await context.printJson({
        outcome,
        directory: result.directory,
        modelChecksum,
        graphDigest,
        tokenizerDigest,
        precision: precision.name,
        weightBytes,
        millis: Math.round(performance.now() - begun),
      });
      return;
    }
    await context.printLines(describeManifest(manifest));
    context.note(`${outcome} ${result.directory} in ${elapsed()}`);
  } finally {
    progress.end();
  }
}
