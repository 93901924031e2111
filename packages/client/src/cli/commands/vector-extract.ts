import type { ExtractionMethod } from "@persona-mesh/steering";
import { type Command, InvalidArgumentError, Option } from "commander";
import { layerList } from "../arguments.ts";
import { CommandContext } from "../context.ts";
import type { CliIo } from "../io.ts";

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
    .action(async (_options, self: Command) => {
      // Loaded here, so that the commands that only talk to a worker start without the maths.
      const { extractToFile } = await import("../extract-to-file.ts");
      await extractToFile(new CommandContext(io, self));
    });
}

function layersOption(value: string): number[] | "all" {
  if (value === "all") return "all";
  try {
    return layerList(value);
  } catch {
    throw new InvalidArgumentError('It must be "all", or a list of layers such as "2,3,4" or "2-4"; the first is 0.');
  }
}
