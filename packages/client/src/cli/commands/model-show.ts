import type { ModelManifest } from "@persona-mesh/model";
import type { Command } from "commander";
import { CommandContext } from "../context.ts";
import { describeManifest } from "../describe-model.ts";
import type { CliIo } from "../io.ts";
import { modelPath } from "../models.ts";
import { formatBytes, progressOn } from "../progress.ts";

const HELP = `
Examples:
  $ persona model show Llama-3.2-1B-Instruct-int8
  $ persona model show ./package --no-verify
  $ persona model show ./package --json | jq -r .modelChecksum
`;

interface ShowOptions {
  verify: boolean;
}

export function addModelShow(model: Command, io: CliIo): void {
  model
    .command("show")
    .description("Show what a model package says about itself, and whether its files agree")
    .argument("<model>", "directory of a package, or its name in the models directory")
    .option("--no-verify", "do not read the files: about a second per gigabyte")
    .addHelpText("after", HELP)
    .action((model: string, _options, self: Command) => show(model, new CommandContext(io, self)));
}

async function show(model: string, context: CommandContext<ShowOptions>): Promise<void> {
  const path = await modelPath(context, model);
  // Loaded here, so that the commands that only talk to a worker start without the importer.
  const { loadPackage, readManifest } = await import("@persona-mesh/model");
  const { verify } = context.options;
  const manifest = verify ? await verified(path, loadPackage, context) : await readManifest(path);
  if (context.json) {
    const { weights: _weights, provenance, ...shown } = manifest;
    const { tensors: _tensors, ...origin } = provenance;
    await context.printJson({ directory: path, ...shown, provenance: origin, verified: verify });
    return;
  }
  await context.printLines(describeManifest(manifest, verify ? "agree with the manifest" : "not verified"));
}

async function verified(
  path: string,
  loadPackage: typeof import("@persona-mesh/model").loadPackage,
  context: CommandContext,
): Promise<ModelManifest> {
  const progress = progressOn(context.io);
  try {
    const { manifest } = await loadPackage(path, {
      signal: context.signal,
      onProgress: (done, total) => progress.update(`verifying ${formatBytes(done)} of ${formatBytes(total)}`),
    });
    return manifest;
  } finally {
    progress.end();
  }
}
