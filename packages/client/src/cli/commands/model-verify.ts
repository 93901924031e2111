import { availableParallelism } from "node:os";
import type { CheckResult, VerifyProgress } from "@persona-mesh/model/verify";
import type { Command } from "commander";
import { LocalError } from "../../local-error.ts";
import { CommandContext } from "../context.ts";
import type { CliIo } from "../io.ts";
import { modelPath } from "../models.ts";
import { formatBytes, formatMillis, progressOn } from "../progress.ts";
import { padEnd, printable } from "../text-layout.ts";

const HELP = `
Examples:
  $ persona model verify Llama-3.2-1B-Instruct-int8
  $ persona model verify ./package --json | jq '.checks[] | select(.outcome != "passed")'

Reads every byte of the package, loads its graphs, and runs them on a few tokens: numbers are finite, a row's do not depend on
the rows beside it, steering acts as predicted in every layer, the tokenizer and the chat template work. Ends with 5 when a
check failed. Checks that this machine cannot run are skipped, and say why.
`;

export function addModelVerify(model: Command, io: CliIo): void {
  model
    .command("verify")
    .description("Run all that can be checked of a model package")
    .argument("<model>", "directory of a package, or its name in the models directory")
    .addHelpText("after", HELP)
    .action((model: string, _options, self: Command) => verify(model, new CommandContext(io, self)));
}

async function verify(model: string, context: CommandContext): Promise<void> {
  const { io, signal } = context;
  const path = await modelPath(context, model);
  // Loaded here, with the native runtime.
  const { CHECK_NAMES, verifyPackage } = await import("@persona-mesh/model/verify");
  const width = Math.max(...CHECK_NAMES.map((name) => name.length));
  const progress = progressOn(io);
  const printing: Promise<void>[] = [];
  const report = await verifyPackage(path, {
    signal,
    threads: availableParallelism(),
    onProgress: (step) => progress.update(progressLine(step)),
    onResult: (result) => {
      progress.end();
      if (context.json) return;
      const printed = context.print(`${resultLine(result, width, context)}\n`);
      // Waited for below; a reader that goes away meanwhile interrupts the command by itself.
      printed.catch(() => {});
      printing.push(printed);
    },
  }).finally(() => progress.end());
  await Promise.all(printing);
  const { manifest, checks, passed } = report;
  const { modelChecksum, graphDigest, precision } = manifest;
  if (context.json) {
    const rounded = checks.map((check) => ({ ...check, millis: Math.round(check.millis) }));
    await context.printJson({
      directory: report.directory,
      passed,
      modelChecksum,
      graphDigest,
      precision: precision.name,
      checks: rounded,
    });
  }
  const failed = checks.filter(({ outcome }) => outcome === "failed").map(({ name }) => name);
  if (failed.length > 0) {
    throw new LocalError(
      "VERIFICATION_FAILED",
      `${failed.length} of ${checks.length} checks failed: ${failed.join(", ")}`,
    );
  }
}

function progressLine({ check, done, total }: VerifyProgress): string {
  if (total === 1) return check;
  const isBytes = check === "files" || check === "weights";
  return isBytes ? `${check} ${formatBytes(done)} of ${formatBytes(total)}` : `${check} ${done} of ${total}`;
}

const PAINTED = { passed: "green", failed: "red", skipped: "yellow" } as const;

function resultLine({ name, outcome, message, millis }: CheckResult, width: number, { paint }: CommandContext): string {
  const time = outcome === "skipped" ? "" : `, ${formatMillis(millis)}`;
  return `${paint(PAINTED[outcome], outcome.padEnd(7))}  ${padEnd(name, width)}  ${printable(message).replace(/\s+/g, " ")}${time}`;
}
