import { basename } from "node:path";
import type { RemovableModel } from "@persona-mesh/model";
import type { Command } from "commander";
import { confirm } from "../confirm.ts";
import { CommandContext } from "../context.ts";
import { UsageError } from "../failure.ts";
import type { CliIo } from "../io.ts";
import { modelPath } from "../models.ts";
import { formatBytes } from "../progress.ts";
import { printable } from "../text-layout.ts";

const HELP = `
Examples:
  $ persona model remove Llama-3.2-1B-Instruct-int8
  $ persona model remove old-one another --yes
  $ persona model remove ./package --yes --json

This cannot be undone. All models are looked at before the first is removed. Only packages are, damaged ones too: nothing else,
none that holds other files, and none that a process of the same user has open, where the system tells (Linux does).
`;

interface RemoveOptions {
  yes?: true;
}

export function addModelRemove(model: Command, io: CliIo): void {
  model
    .command("remove")
    .description("Remove models, for good")
    .argument("<model...>", "directories of packages, or their names in the models directory")
    .option("--yes", "do not ask")
    .addHelpText("after", HELP)
    .action((models: string[], _options, self: Command) => remove(models, new CommandContext(io, self)));
}

async function remove(names: readonly string[], context: CommandContext<RemoveOptions>): Promise<void> {
  const { io, options } = context;
  if (context.json && options.yes !== true) {
    throw new UsageError("CONFIRMATION_NEEDED", "this cannot be undone: give --yes with --json, which asks nobody");
  }
  const { checkRemovable, removeModel } = await import("@persona-mesh/model");
  const models: RemovableModel[] = [];
  for (const path of new Set(await Promise.all(names.map((name) => modelPath(context, name))))) {
    models.push(await checkRemovable(path));
  }
  const removed: RemovableModel[] = [];
  for (const model of models) {
    io.signal.throwIfAborted();
    if (options.yes !== true && !(await confirm(questionOf(model), io))) {
      context.note(`${model.directory} stays`);
      continue;
    }
    removed.push(await removeModel(model.directory));
    context.note(`removed ${model.directory}`);
  }
  if (context.json) await context.printJson({ removed: removed.map(({ directory, bytes }) => ({ directory, bytes })) });
}

function questionOf({ directory, bytes, isKnownUnused }: RemovableModel): string {
  const use = isKnownUnused ? "" : " Whether a worker has it open is not known here.";
  return `Remove "${printable(basename(directory))}" for good, ${formatBytes(bytes)} in ${printable(directory)}?${use}`;
}
