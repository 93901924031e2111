import { join, resolve } from "node:path";
import type { ImportProgress } from "@persona-mesh/model";
import { type Command, Option } from "commander";
import { integer } from "../arguments.ts";
import { CommandContext } from "../context.ts";
import { describeManifest } from "../describe-model.ts";
import { UsageError } from "../failure.ts";
import type { CliIo } from "../io.ts";
import { modelsEnvironment } from "../models.ts";
import { formatBytes, formatMillis, progressOn } from "../progress.ts";
import { formatTimeLeft, TimeLeft } from "../time-left.ts";

const HELP = `
Examples:
  $ persona model import ./Llama-3.2-1B-Instruct
  $ persona model import ./Llama-3.2-1B-Instruct --precision int8
  $ persona model import ./Phi-3-mini-128k-instruct --precision int4 --head-precision int8 --context 4096
  $ persona model import models/starter --out .persona/models/starter --overwrite --json

The checkpoint is a Hugging Face directory: config.json, safetensors in one file or in shards, tokenizer.json,
tokenizer_config.json. Without --out the package goes into the models directory, under the checkpoint's name with the
precision behind it where it is not float32; every command then knows it by that name. The package appears whole or not at
all; an interrupted import leaves nothing behind. docs/models.md says what can be imported and what it takes.
`;

/** As `precisionOf` in the model package has them; a test compares. Written here, so that help needs no importer. */
export const PRECISIONS = ["float32", "int8", "int4", "bfloat16"] as const;
export const BLOCKS = ["32", "128"] as const;
export const VOCABULARY_PRECISIONS = ["float32", "int8", "int4"] as const;

/** More positions than any model has. */
const MAX_CONTEXT = 16_777_216;

type VocabularyPrecision = (typeof VOCABULARY_PRECISIONS)[number];

interface ImportCommandOptions {
  out?: string;
  name?: string;
  precision: (typeof PRECISIONS)[number];
  block?: (typeof BLOCKS)[number];
  headPrecision?: VocabularyPrecision;
  embeddingPrecision?: VocabularyPrecision;
  context?: number;
  overwrite?: true;
}

export function addModelImport(model: Command, io: CliIo): void {
  model
    .command("import")
    .description("Turn a Hugging Face checkpoint into a model package")
    .argument("<checkpoint-dir>", "Hugging Face checkpoint")
    .option("--out <dir>", "where the package goes (default: the models directory, under the model's name)")
    .option("--name <name>", "name in the models directory (default: the checkpoint's)")
    .addOption(
      new Option("--precision <name>", "how weights are stored and multiplied").choices(PRECISIONS).default("float32"),
    )
    .addOption(new Option("--block <n>", "weights that share a scale, for int8 and int4").choices(BLOCKS))
    .addOption(new Option("--head-precision <name>", "of the output head").choices(VOCABULARY_PRECISIONS))
    .addOption(new Option("--embedding-precision <name>", "of the embedding").choices(VOCABULARY_PRECISIONS))
    .option(
      "--context <tokens>",
      "positions to import for; decides how LongRoPE stretches (default: the model's)",
      integer(1, MAX_CONTEXT),
    )
    .option("--overwrite", "put it in the place of another package")
    .addHelpText("after", HELP)
    .action((directory: string, _options, self: Command) => importModel(directory, new CommandContext(io, self)));
}

async function importModel(checkpoint: string, context: CommandContext<ImportCommandOptions>): Promise<void> {
  const { io, options, signal } = context;
  const directory = resolve(io.cwd, checkpoint);
  const choices = precisionChoices(options);
  const out = await outputOf(directory, context);
  // Loaded here, so that the commands that only talk to a worker start without the importer.
  const { importCheckpoint } = await import("@persona-mesh/model");
  const progress = progressOn(io);
  const begun = performance.now();
  const millis = () => performance.now() - begun;
  try {
    const result = await importCheckpoint(directory, out, {
      precision: options.precision,
      ...choices,
      ...(options.context === undefined ? {} : { contextTokens: options.context }),
      overwrite: options.overwrite === true,
      signal,
      onProgress: drawImport((line) => progress.update(line)),
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
        millis: Math.round(millis()),
      });
      return;
    }
    await context.printLines(describeManifest(manifest));
    const speed = `${formatBytes((1000 * manifest.weightBytes) / millis())}/s of weights`;
    context.note(`${outcome} ${result.directory} in ${formatMillis(millis())}, ${speed}`);
  } finally {
    progress.end();
  }
}

/** "converting 1.20 GB of 8.03 GB, 412 MB/s, 15 s left": bytes of the phase, time of the whole import. */
function drawImport(draw: (line: string) => void): (progress: ImportProgress) => void {
  const left = new TimeLeft();
  let phase: ImportProgress["phase"] | undefined;
  let begun = 0;
  return (progress) => {
    if (progress.phase !== phase) {
      phase = progress.phase;
      begun = performance.now();
    }
    const millis = left.update(progress.fraction, 1);
    const elapsed = performance.now() - begun;
    draw(
      [
        `${phase} ${formatBytes(progress.done)} of ${formatBytes(progress.total)}`,
        ...(elapsed < 1000 ? [] : [`${formatBytes((1000 * progress.done) / elapsed)}/s`]),
        ...(millis === undefined ? [] : [formatTimeLeft(millis)]),
      ].join(", "),
    );
  };
}

/** @throws UsageError for choices that the precision does not have */
function precisionChoices(options: ImportCommandOptions) {
  const { precision, block, headPrecision, embeddingPrecision } = options;
  const isInteger = precision === "int8" || precision === "int4";
  if (!isInteger && (block ?? headPrecision ?? embeddingPrecision) !== undefined) {
    const given = block !== undefined ? "--block" : headPrecision ? "--head-precision" : "--embedding-precision";
    throw new UsageError("OPTIONS_CONFLICT", `${given} is a choice within --precision int8 and int4, not ${precision}`);
  }
  return {
    ...(block === undefined ? {} : { block: block === "32" ? (32 as const) : (128 as const) }),
    ...(headPrecision === undefined ? {} : { head: headPrecision }),
    ...(embeddingPrecision === undefined ? {} : { embedding: embeddingPrecision }),
  };
}

/** @throws UsageError where no name can be made, or two places are given */
async function outputOf(checkpoint: string, { io, options }: CommandContext<ImportCommandOptions>): Promise<string> {
  const { out, name, precision } = options;
  if (out !== undefined) {
    if (name !== undefined) throw new UsageError("OPTIONS_CONFLICT", "--out and --name exclude each other");
    return resolve(io.cwd, out);
  }
  const { isModelName, modelNameOf, modelsDirectory } = await import("@persona-mesh/model");
  if (name !== undefined && !isModelName(name)) {
    throw new UsageError(
      "MODEL_NAME_INVALID",
      `"${name}" is no name of a model: letters, digits and ". _ + -", at most 128, beginning with a letter or digit`,
    );
  }
  const own = modelNameOf(checkpoint);
  if (name === undefined && own === undefined) {
    throw new UsageError("MODEL_NAME_INVALID", "the checkpoint's folder gives no name; give --name or --out");
  }
  const suffix = precision === "float32" ? "" : `-${precision}`;
  return join(modelsDirectory(modelsEnvironment(io)), name ?? `${own}${suffix}`);
}
