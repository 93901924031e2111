import type { Command } from "commander";
import { UsageError } from "../../failure.ts";
import type { CliIo } from "../../io.ts";
import { shortName, time } from "../../registry/cells.ts";
import { addChangeOptions, type ChangeOptions, changeFields, finishChange } from "../../registry/change.ts";
import { belowTenant } from "../../registry/names.ts";
import { examples, printItems } from "../../registry/output.ts";
import { onRegistry, type RegistrySession } from "../../registry/session.ts";
import { printable } from "../../text-layout.ts";

interface ReviewOptions extends ChangeOptions {
  accept?: true;
  object?: true;
  note?: string;
}

export function addBreakGlassCommands(breakGlass: Command, io: CliIo): void {
  const list = breakGlass
    .command("list")
    .description("List what was done past approval, newest first")
    .option("--unreviewed", "only what nobody has reviewed")
    .addHelpText("after", examples(["approval break-glass list --unreviewed"]));
  onRegistry<{ unreviewed?: true }>(list, io, { roles: ["viewer"] }, async ({ context, client, parent, call }) =>
    printItems(context, {
      key: "uses",
      items: client.listBreakGlassUses({ parent, unreviewedOnly: context.options.unreviewed === true }, call),
      columns: [
        { heading: "USE", cell: ({ name }) => shortName(name) },
        { heading: "ACTION", cell: ({ action }) => printable(action) },
        { heading: "OF", cell: ({ resource }) => shortName(resource) },
        { heading: "BY", cell: ({ actor }) => printable(actor) },
        { heading: "AT", cell: ({ createTime }) => time(createTime) },
        {
          heading: "REVIEW",
          cell: ({ review }) => (review === undefined ? "open" : review.accepted ? "right" : "wrong"),
        },
        { heading: "JUSTIFICATION", cell: ({ justification }) => printable(justification) },
      ],
    }),
  );

  const review = breakGlass
    .command("review")
    .description("Judge what somebody else did past approval")
    .argument("<use>", "as break-glass list shows it, or a full name")
    .option("--accept", "it was right")
    .option("--object", "it was wrong")
    .requiredOption("--note <text>", "why")
    .addHelpText("after", examples(["approval break-glass review USE --accept --note 'outage, seen' --as bob"]));
  addChangeOptions(review);
  onRegistry<ReviewOptions>(review, io, { roles: ["approver"] }, reviewUse);
}

async function reviewUse(session: RegistrySession<ReviewOptions>, given = ""): Promise<void> {
  const { client, options, call } = session;
  const { accept, object, note = "" } = options;
  if ((accept === true) === (object === true)) {
    throw new UsageError("OPTIONS_CONFLICT", "a review needs --accept or --object");
  }
  const name = belowTenant(session, "breakGlassUses", given);
  const request = { name, accepted: accept === true, note, ...changeFields(options) };
  const response = await client.approvals.reviewBreakGlassUse(request, call);
  await finishChange(session, { name, response, lines: [`reviewed ${name}: ${accept ? "right" : "wrong"}`] });
}
