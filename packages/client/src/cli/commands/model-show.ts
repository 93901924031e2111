import { resolve } from "node:path";
import type { ModelManifest } from "@persona-mesh/model";
import type { Command } from "commander";
import { CommandContext } from "../context.ts";
import type { CliIo } from "../io.ts";
import { formatBytes, progressOn } from "../progress.ts";
import { fieldList } from "../table.ts";
import { printable } from "../text-layout.ts";

const HELP = `
Examples:
  $ persona model show ./package
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
    .argument("<dir>", "model package")
    .option("--no-verify", "do not read the files: about a second per gigabyte")
    .addHelpText("after", HELP)
    .action((directory: string, _options, self: Command) => show(directory, new CommandContext(io, self)));
}

async function show(directory: string, context: CommandContext<ShowOptions>): Promise<void> {
  // Loaded here, so that the commands that only talk to a worker start without the importer.
  const { loadPackage, readManifest } = await import("@persona-mesh/model");
  const path = resolve(context.io.cwd, directory);
  const { verify } = context.options;
  const manifest = verify ? await verified(path, loadPackage, context) : await readManifest(path);
  if (context.json) {
    const { weights: _weights, provenance, ...shown } = manifest;
    const { tensors: _tensors, ...origin } = provenance;
    await context.printJson({ ...shown, provenance: origin, verified: verify });
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

/** The manifest for people; also what `model import` ends with, which has no check to tell of. */
export function describeManifest(manifest: ModelManifest, files?: string): string[] {
  const { spec, provenance } = manifest;
  const others = Object.values(manifest.files);
  const bytes = others.reduce((sum, file) => sum + file.bytes, manifest.weightBytes);
  return fieldList([
    ["model checksum", manifest.modelChecksum],
    ["graph digest", manifest.graphDigest],
    ["tokenizer digest", manifest.tokenizerDigest],
    ["architecture", spec.architecture],
    ["precision", manifest.precision.name],
    ["layers", String(spec.layers)],
    ["hidden size", String(spec.hidden)],
    ["heads", `${spec.heads}, key/value ${spec.kvHeads}, of ${spec.headDim}`],
    ["vocabulary", `${spec.vocabulary}${spec.tiedEmbeddings ? ", tied to the head" : ""}`],
    ["context", `${spec.contextTokens} tokens`],
    ["weights", formatBytes(manifest.weightBytes)],
    ["package", `${formatBytes(bytes)} in ${others.length + 2} files`],
    ["graphs", Object.keys(manifest.graphs).join(", ")],
    ["made from", `${printable(provenance.source)}, ${provenance.createdAt}, by ${printable(provenance.importer)}`],
    ...(files === undefined ? [] : [["files", files] as const]),
  ]);
}
