import type { ListedModel } from "@persona-mesh/model";
import type { Command } from "commander";
import { CommandContext } from "../context.ts";
import { formatCount, packageBytes, parametersOf } from "../describe-model.ts";
import type { CliIo } from "../io.ts";
import { modelsEnvironment } from "../models.ts";
import { formatBytes } from "../progress.ts";
import { table } from "../table.ts";
import { printable } from "../text-layout.ts";

const HELP = `
Examples:
  $ persona model list
  $ persona model list --json | jq -r '.models[] | select(.damaged == null).name'

The models directory is PERSONA_MODELS, else persona-mesh/models in the user's data folder. Only manifests and file sizes are
looked at; "persona model verify NAME" reads and runs a model.
`;

export function addModelList(model: Command, io: CliIo): void {
  model
    .command("list")
    .description("List the models in the models directory")
    .addHelpText("after", HELP)
    .action((_options, self: Command) => list(new CommandContext(io, self)));
}

async function list(context: CommandContext): Promise<void> {
  const { listModels, modelsDirectory } = await import("@persona-mesh/model");
  const directory = modelsDirectory(modelsEnvironment(context.io));
  const models = await listModels(directory);
  if (context.json) {
    await context.printJson({ directory, models: models.map(modelJson) });
    return;
  }
  if (models.length === 0) {
    context.note(`no models in ${directory}; "persona model import CHECKPOINT_DIR" puts one there`);
    return;
  }
  const whole = models.filter((model) => model.kind === "model");
  const damaged = models.filter((model) => model.kind === "damaged");
  if (whole.length > 0) await context.printLines(modelTable(whole));
  if (damaged.length === 0) return;
  if (whole.length > 0) await context.print("\n");
  await context.printLines(
    table(
      [
        { heading: "DAMAGED", cell: ({ name }) => printable(name) },
        { heading: "REASON", cell: ({ reason }) => reason },
        { heading: "WHAT IS WRONG", cell: ({ message }) => printable(message) },
      ],
      damaged,
    ),
  );
}

type WholeModel = Extract<ListedModel, { kind: "model" }>;

function modelTable(models: readonly WholeModel[]): string[] {
  return table<WholeModel>(
    [
      { heading: "NAME", cell: ({ name }) => printable(name) },
      { heading: "ARCHITECTURE", cell: ({ manifest }) => printable(manifest.spec.architecture) },
      { heading: "PRECISION", cell: ({ manifest }) => manifest.precision.name },
      { heading: "PARAMETERS", align: "right", cell: ({ manifest }) => formatCount(parametersOf(manifest)) },
      { heading: "WEIGHTS", align: "right", cell: ({ manifest }) => formatBytes(manifest.weightBytes) },
      { heading: "CONTEXT", align: "right", cell: ({ manifest }) => String(manifest.spec.contextTokens) },
      { heading: "CHECKSUM", cell: ({ manifest }) => manifest.modelChecksum.slice(0, 12) },
      { heading: "CREATED", cell: ({ manifest }) => manifest.provenance.createdAt.slice(0, 16).replace("T", " ") },
    ],
    models,
  );
}

/** Every model has the same fields; those of a damaged one are null but for what is wrong. */
function modelJson(model: ListedModel) {
  const { name, directory } = model;
  if (model.kind === "damaged") {
    const unknown = { architecture: null, precision: null, parameters: null, weightBytes: null, packageBytes: null };
    const identity = { contextTokens: null, modelChecksum: null, graphDigest: null, createdAt: null };
    const { reason, message } = model;
    return { name, directory, ...unknown, ...identity, damaged: { reason, message } };
  }
  const { manifest } = model;
  return {
    name,
    directory,
    architecture: manifest.spec.architecture,
    precision: manifest.precision.name,
    parameters: parametersOf(manifest),
    weightBytes: manifest.weightBytes,
    packageBytes: packageBytes(manifest),
    contextTokens: manifest.spec.contextTokens,
    modelChecksum: manifest.modelChecksum,
    graphDigest: manifest.graphDigest,
    createdAt: manifest.provenance.createdAt,
    damaged: null,
  };
}
