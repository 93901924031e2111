import type { Command } from "commander";
import { connect } from "../connect.ts";
import { CommandContext } from "../context.ts";
import type { CliIo } from "../io.ts";
import { fieldList } from "../table.ts";
import { printable } from "../text-layout.ts";

const HELP = `
Examples:
  $ persona model served
  $ persona model served --address worker-3:7400 --tls-ca ca.pem --json
`;

export function addModelServed(model: Command, io: CliIo): void {
  model
    .command("served")
    .description("Ask a worker what model it serves, and how")
    .addHelpText("after", HELP)
    .action((_options, self: Command) => served(new CommandContext(io, self)));
}

async function served(context: CommandContext): Promise<void> {
  using connection = await connect(context, "viewer");
  const {
    $typeName: _type,
    $unknown: _unknown,
    ...model
  } = await connection.client.getModel({ signal: context.signal });
  if (context.json) {
    await context.printJson(model);
    return;
  }
  await context.printLines(
    fieldList([
      ["model checksum", printable(model.modelChecksum)],
      ["graph digest", printable(model.graphDigest)],
      ["tokenizer digest", printable(model.tokenizerDigest)],
      ["architecture", printable(model.architecture)],
      ["precision", printable(model.precision)],
      ["provider", printable(model.provider)],
      ["layers", String(model.layers)],
      ["hidden size", String(model.hiddenSize)],
      ["vocabulary", String(model.vocabularySize)],
      ["context", `${model.contextTokens} tokens`],
      ["slots", String(model.slots)],
    ]),
  );
}
