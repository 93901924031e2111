import type { Command } from "commander";
import { integer } from "../../arguments.ts";
import type { CliIo } from "../../io.ts";
import { shortName, time } from "../../registry/cells.ts";
import { addChangeOptions, type ChangeOptions, changeFields, finishChange } from "../../registry/change.ts";
import { belowTenant } from "../../registry/names.ts";
import { examples, printItems } from "../../registry/output.ts";
import { onRegistry, type RegistrySession } from "../../registry/session.ts";
import { printable } from "../../text-layout.ts";

const MAX_REVISION = 2 ** 32 - 1;

interface ActivateOptions extends ChangeOptions {
  revision?: number;
}

/** The persona that calls wear which name none. */
export function addActivationCommands(persona: Command, io: CliIo): void {
  const activate = persona
    .command("activate")
    .description("Make a persona the tenant's active one: the persona switch")
    .argument("<persona>")
    .option("--revision <number>", "an earlier revision; the newest where not given", integer(1, MAX_REVISION))
    .addHelpText(
      "after",
      examples(
        ["persona activate cheerful --tenant acme", "persona activate cheerful --revision 2 --wait 10s"],
        "--etag is the tenant's: nobody else has switched since.",
      ),
    );
  addChangeOptions(activate, "reason", "etag", "breakGlass", "wait");
  // Past approval goes an admin alone.
  const roles = ({ breakGlass }: ChangeOptions) => [
    breakGlass === undefined ? ("operator" as const) : ("admin" as const),
  ];
  onRegistry<ActivateOptions>(activate, io, { roles }, activatePersona);

  const deactivate = persona
    .command("deactivate")
    .description("Leave the tenant without an active persona: calls that name none are unsteered")
    .addHelpText("after", examples(["persona deactivate --tenant acme --reason 'maintenance'"]));
  addChangeOptions(deactivate, "reason", "etag", "wait");
  onRegistry<ChangeOptions>(deactivate, io, { roles: ["operator"] }, async (session) => {
    const { client, options, parent, call } = session;
    const { etag: tenantEtag = "", ...change } = changeFields(options);
    const response = await client.personas.deactivatePersona({ parent, tenantEtag, ...change }, call);
    const lines = [`${options.dryRun ? "would leave" : "left"} ${parent} without an active persona`];
    await finishChange(session, { name: parent, response, lines, revision: response.revision });
  });

  const history = persona
    .command("history")
    .description("List what was active for the tenant, newest first")
    .addHelpText("after", examples(["persona history", "persona history --tenant globex --json"]));
  onRegistry(history, io, { roles: ["viewer"] }, async ({ context, client, parent, call }) =>
    printItems(context, {
      key: "activations",
      items: client.listActivations({ parent }, call),
      columns: [
        { heading: "NUMBER", align: "right", cell: ({ number }) => String(number) },
        { heading: "PERSONA", cell: ({ revision }) => (revision === "" ? "(none)" : shortName(revision)) },
        { heading: "SINCE", cell: ({ activateTime }) => time(activateTime) },
        { heading: "BY", cell: ({ activatedBy }) => printable(activatedBy) },
        { heading: "BREAK-GLASS", cell: ({ breakGlass }) => (breakGlass ? "yes" : "no") },
        { heading: "REASON", cell: ({ reason }) => printable(reason) },
      ],
    }),
  );
}

async function activatePersona(session: RegistrySession<ActivateOptions>, given = ""): Promise<void> {
  const { client, options, call } = session;
  const name = belowTenant(session, "personas", given);
  const { etag: tenantEtag = "", ...change } = changeFields(options);
  const revision = options.revision ?? 0;
  const response = await client.personas.activatePersona({ name, revision, tenantEtag, ...change }, call);
  const active = shortName(response.tenant?.activePersona?.revision ?? "");
  const lines = [`${options.dryRun ? "would activate" : "active:"} ${active || shortName(name)}`];
  await finishChange(session, { name, response, lines, revision: response.revision });
}
