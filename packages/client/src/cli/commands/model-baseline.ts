import type { Command } from "commander";
import { decimal, integer, seed } from "../arguments.ts";
import { CommandContext } from "../context.ts";
import type { CliIo } from "../io.ts";

const HELP = `
Examples:
  $ persona model baseline --prompts prompts.jsonl --out .persona/models/starter/guard-baseline.json
  $ persona model baseline --prompts prompts.jsonl --temperature 0.6 --temperature 1 --max-tokens 400 --out baseline.json

PROMPTS has one JSON object a line, {"prompt", "system"}; the system line may be missing. Take prompts as the model is really
asked, a few hundred, with system lines as often as there are some. The worker answers each without a persona, once at every
temperature. The file keeps entropies and which tokens of a reply are the same, and no text. A worker reads it as
"guard-baseline.json" in the folder of its model package, or where its option guardBaseline says.
`;

/** Longer replies than any context. */
const MAX_TOKENS = 1 << 20;

export function addModelBaseline(model: Command, io: CliIo): void {
  const defaultTokens = 256;
  model
    .command("baseline")
    .description("Measure what unsteered replies of a worker's model are like, for its guard")
    .requiredOption("--prompts <file>", "prompts, one JSON object a line")
    .requiredOption("--out <file>", "baseline file to write (JSON)")
    .option("--overwrite", "replace the file where it exists")
    .option("--temperature <t>", "how replies are sampled; may be repeated (default: 1)", temperatures)
    .option("--max-tokens <n>", "longest reply", integer(1, MAX_TOKENS), defaultTokens)
    .option("--seed <n>", "of the first reply; the next ones count up (default: 0)", seed)
    .addHelpText("after", HELP)
    .action(async (_options, self: Command) => {
      // Loaded here, so that the commands that only talk to a worker start without the maths.
      const { baselineToFile } = await import("../baseline-to-file.ts");
      await baselineToFile(new CommandContext(io, self));
    });
}

function temperatures(value: string, previous: number[] = []): number[] {
  return [...previous, decimal(0, 10)(value)];
}
