import { resolve } from "node:path";
import type { Extraction, ExtractionMethod, LayerExtraction, Pooling } from "@persona-mesh/steering";
import { separates } from "@persona-mesh/steering";
import { type Command, InvalidArgumentError, Option } from "commander";
import { type ContrastPair, parseBaseline, parsePairs } from "../../contrast-samples.ts";
import { extractVector } from "../../extract-vector.ts";
import { MAX_SAMPLES_FILE_BYTES, readJsonFile } from "../../json-file.ts";
import { LocalError } from "../../local-error.ts";
import { layerList } from "../arguments.ts";
import { connect } from "../connect.ts";
import { CommandContext } from "../context.ts";
import type { CliIo } from "../io.ts";
import { NewFile } from "../new-file.ts";
import { formatBytes, formatMillis, progressOn } from "../progress.ts";
import { table } from "../table.ts";

const HELP = `
Examples:
  $ persona vector extract --pairs pairs.json --baseline baseline.json --name cheerful --out cheerful.safetensors
  $ persona vector extract --pairs desk/pairs.json --tone cheerful --baseline desk/baseline.json --layers 2-4 \\
      --name cheerful --out cheerful.safetensors --overwrite

PAIRS is {"pairs": [{"prompt", "positive", "negative"}]}: one prompt with two replies, with and without the concept. A file
of several concepts is {"tones": {"cheerful": {"pairs": [...]}}}; --tone chooses. BASELINE is {"samples": [{"prompt",
"response"}]}: exchanges as the model is really used. Every entry may have a "system" line.

Needs a token of the role "service". The figures are held out: a direction is judged on pairs it was not made from.
Vectors that do not separate them are refused, and no file is written.
`;

interface ExtractOptions {
  pairs: string;
  tone?: string;
  baseline: string;
  method: ExtractionMethod;
  pooling: "response-mean" | "last-prompt-token";
  layers?: number[] | "all";
  name: string;
  out: string;
  overwrite?: true;
}

const METHODS: readonly ExtractionMethod[] = ["MEAN_DIFF", "PCA_CENTER", "PCA_DIFF"];

export function addVectorExtract(vector: Command, io: CliIo): void {
  vector
    .command("extract")
    .description("Extract a steering vector from contrastive pairs, on the worker's model")
    .requiredOption("--pairs <file>", "contrastive pairs (JSON)")
    .option("--tone <name>", "which concept of a pairs file of several")
    .requiredOption("--baseline <file>", "exchanges as the model is used (JSON)")
    .addOption(
      new Option("--method <method>", "how differences become a direction").choices(METHODS).default("MEAN_DIFF"),
    )
    .addOption(
      new Option("--pooling <where>", "where the residual is read")
        .choices(["response-mean", "last-prompt-token"])
        .default("response-mean"),
    )
    .option("--layers <list>", 'layers such as "2,3,4" or "2-4", or "all" (default: the middle band)', layersOption)
    .requiredOption("--name <name>", "the concept")
    .requiredOption("--out <file>", "vector file to write (safetensors)")
    .option("--overwrite", "replace the file where it exists")
    .addHelpText("after", HELP)
    .action((_options, self: Command) => extract(new CommandContext(io, self)));
}

function layersOption(value: string): number[] | "all" {
  if (value === "all") return "all";
  try {
    return layerList(value);
  } catch {
    throw new InvalidArgumentError('It must be "all", or a list of layers such as "2,3,4" or "2-4"; the first is 0.');
  }
}

async function extract(context: CommandContext<ExtractOptions>): Promise<void> {
  const { io, options, signal } = context;
  const pairs = await readPairs(resolve(io.cwd, options.pairs), options.tone);
  const baselineFile = resolve(io.cwd, options.baseline);
  const baseline = parseBaseline(await readJsonFile(baselineFile, MAX_SAMPLES_FILE_BYTES), baselineFile);
  // Before the work, not after it.
  await using file = await NewFile.create(resolve(io.cwd, options.out), { overwrite: options.overwrite === true });
  using connection = await connect(context, "service");

  const progress = progressOn(io);
  const begun = performance.now();
  let extraction: Extraction | undefined;
  try {
    const { method, name, layers } = options;
    const pooling = options.pooling.replaceAll("-", "_") as Pooling;
    const { bytes, digest, version } = await extractVector(
      connection.client,
      { name, pairs, baseline, method, pooling, signal, ...(layers === undefined ? {} : { layers }) },
      (event) => {
        if (event.kind === "extracted") extraction = event.extraction;
        else progress.update(`captured ${event.done} of ${event.total}, ${formatMillis(performance.now() - begun)}`);
      },
    );
    await file.commit(bytes);
    progress.end();
    if (context.json) {
      await context.printJson({ file: file.path, digest, bytes: bytes.byteLength, manifest: version.manifest });
      return;
    }
    await context.printLines([...qualityTable(extraction), "", `${digest}  ${options.out}`]);
    context.note(`${formatBytes(bytes.byteLength)}, ${formatMillis(performance.now() - begun)}`);
  } catch (error) {
    progress.end();
    // What the figures are is the first question about a refusal.
    if (extraction !== undefined && !context.json) io.stderr.write(`${qualityTable(extraction).join("\n")}\n`);
    throw error;
  }
}

async function readPairs(file: string, tone: string | undefined): Promise<ContrastPair[]> {
  return parsePairs(await readJsonFile(file, MAX_SAMPLES_FILE_BYTES), tone, file);
}

/** One line per layer: how far the direction can be trusted. */
export function qualityTable(extraction: Extraction | undefined): string[] {
  if (extraction === undefined) throw new LocalError("RESPONSE_INVALID", "nothing was extracted");
  const figure = (heading: string, of: (layer: LayerExtraction) => string) =>
    ({ heading, align: "right", cell: of }) as const;
  return table<LayerExtraction>(
    [
      figure("LAYER", ({ layer }) => String(layer)),
      figure("AUC", ({ quality }) => quality.auc.toFixed(3)),
      figure("RIGHT SIGNS", ({ quality }) => quality.rightSignShare.toFixed(3)),
      figure("SPLIT-HALF COS", ({ quality }) => quality.splitHalfCosine.toFixed(3)),
      figure("PAIRWISE COS", ({ quality }) => quality.pairwiseCosine.toFixed(3)),
      figure("REMOVED COS", ({ quality }) => quality.removedCosine.toFixed(3)),
      figure("NORM", ({ quality }) => quality.normBefore.toPrecision(4)),
      figure("REFERENCE NORM", ({ referenceNorm }) => referenceNorm.toPrecision(4)),
      { heading: "SEPARATES", cell: ({ quality }) => (separates(quality, extraction.pairCount) ? "yes" : "no") },
    ],
    extraction.layers,
  );
}
