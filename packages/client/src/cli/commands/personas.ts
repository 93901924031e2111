import type { LoadedPersona } from "@persona-mesh/protocol";
import { ModeSchema } from "@persona-mesh/protocol";
import type { Command } from "commander";
import { connect } from "../connect.ts";
import { CommandContext } from "../context.ts";
import { enumName } from "../enum-name.ts";
import type { CliIo } from "../io.ts";
import { proofJson } from "../reply-json.ts";
import { table } from "../table.ts";
import { printable } from "../text-layout.ts";

const HELP = `
Examples:
  $ persona personas
  $ persona personas --tenant globex
  $ persona personas --json | jq '.personas[] | select(.active).name'
`;

export function addPersonas(program: Command, io: CliIo): void {
  program
    .command("personas")
    .description("List the personas of the tenant that the worker can serve now")
    .addHelpText("after", HELP)
    .action((_options, self: Command) => personas(new CommandContext(io, self)));
}

async function personas(context: CommandContext): Promise<void> {
  using connection = await connect(context, "viewer");
  const loaded: LoadedPersona[] = [];
  for await (const persona of connection.client.listLoadedPersonas({ signal: context.signal })) loaded.push(persona);
  if (context.json) {
    await context.printJson({
      personas: loaded.map(({ proof, active, resident }) => ({
        ...(proof === undefined ? {} : proofJson(proof)),
        active,
        resident,
      })),
    });
    return;
  }
  if (loaded.length === 0) {
    context.note("the worker has no personas for this tenant");
    return;
  }
  await context.printLines(
    table<LoadedPersona>(
      [
        { heading: "NAME", cell: ({ proof }) => printable(proof?.name ?? "") },
        { heading: "ALPHA", align: "right", cell: ({ proof }) => alpha(proof?.effectiveAlphaHundredths) },
        { heading: "MODE", cell: ({ proof }) => (proof === undefined ? "" : enumName(ModeSchema, proof.mode)) },
        { heading: "LAYERS", cell: ({ proof }) => (proof?.doses ?? []).map(({ layer }) => layer).join(",") },
        { heading: "OUTCOME", cell: ({ proof }) => printable(proof?.outcome ?? "") },
        { heading: "REVISION", cell: ({ proof }) => printable(proof?.revision ?? "").slice(0, 12) },
        { heading: "ACTIVE", cell: ({ active }) => (active ? "yes" : "no") },
        { heading: "RESIDENT", cell: ({ resident }) => (resident ? "yes" : "no") },
      ],
      loaded,
    ),
  );
}

function alpha(hundredths: number | undefined): string {
  return hundredths === undefined ? "" : (hundredths / 100).toFixed(2);
}
