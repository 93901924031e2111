import { type PersonaRevision, ResourceStateSchema, RevisionCauseSchema } from "@persona-mesh/protocol/registry";
import type { Command } from "commander";
import { enumName } from "../../enum-name.ts";
import { UsageError } from "../../failure.ts";
import type { CliIo } from "../../io.ts";
import { digest, shortName, time } from "../../registry/cells.ts";
import { addChangeOptions, type ChangeOptions, changeFields, finishChange } from "../../registry/change.ts";
import { belowTenant, revisionName } from "../../registry/names.ts";
import { examples, fields, printAnswer, printItems } from "../../registry/output.ts";
import { addSpecOptions, type SpecOptions, specOf } from "../../registry/persona-spec.ts";
import { revisionLines } from "../../registry/revision-lines.ts";
import { onRegistry, type RegistrySession } from "../../registry/session.ts";
import { table } from "../../table.ts";
import { printable } from "../../text-layout.ts";
import { addActivationCommands } from "./activation.ts";

interface WriteOptions extends ChangeOptions, SpecOptions {
  displayName?: string;
  description?: string;
}

/** `persona persona …`: compositions of vectors, their revisions, and which one is active. */
export function addPersonaCommands(persona: Command, io: CliIo): void {
  const create = persona
    .command("create")
    .description("Make a persona of one or more vectors")
    .argument("<id>", "lower-case letters, digits and hyphens");
  addWriteOptions(create).addHelpText(
    "after",
    examples([
      "persona create cheerful --term cheerful@production=0.35",
      "persona create warm --term cheerful@production=0.3@3-5 --term formal@production=-0.1 --policy scale --dry-run",
      "persona create warm --file warm.json",
    ]),
  );
  addChangeOptions(create, "reason");
  onRegistry<WriteOptions>(create, io, { roles: ["admin"] }, createPersona);

  const update = persona
    .command("update")
    .description("Change a persona; new terms make a new revision")
    .argument("<persona>");
  addWriteOptions(update).addHelpText(
    "after",
    examples(["persona update cheerful --term cheerful@production=0.3 --reason 'calmer'"]),
  );
  addChangeOptions(update, "reason", "etag");
  onRegistry<WriteOptions>(update, io, { roles: ["admin"] }, updatePersona);

  const show = persona
    .command("show")
    .description("Show a persona with its newest revision, or one revision")
    .argument("<persona>", "PERSONA, PERSONA@NUMBER for a revision, or a full name")
    .addHelpText("after", examples(["persona show cheerful", "persona show cheerful@3 --json"]));
  onRegistry(show, io, { roles: ["viewer"] }, showPersona);

  const list = persona
    .command("list")
    .description("List the tenant's personas")
    .option("--deleted", "deleted ones too")
    .addHelpText("after", examples(["persona list", "persona list --tenant globex --json"]));
  onRegistry<{ deleted?: true }>(list, io, { roles: ["viewer"] }, async ({ context, client, parent, call }) =>
    printItems(context, {
      key: "personas",
      items: client.listPersonas({ parent, showDeleted: context.options.deleted === true }, call),
      columns: [
        { heading: "PERSONA", cell: ({ name }) => shortName(name) },
        { heading: "LATEST", cell: ({ latestRevision }) => shortName(latestRevision) },
        { heading: "RELEASED", cell: ({ releasedRevision }) => shortName(releasedRevision) },
        { heading: "ACTIVE", cell: ({ activeRevision }) => shortName(activeRevision) },
        { heading: "STATE", cell: ({ state }) => enumName(ResourceStateSchema, state) },
        { heading: "UPDATED", cell: ({ updateTime }) => time(updateTime) },
      ],
    }),
  );

  const revisions = persona
    .command("revisions")
    .description("List what a persona has been, newest first")
    .argument("<persona>")
    .addHelpText("after", examples(["persona revisions cheerful"]));
  onRegistry(revisions, io, { roles: ["viewer"] }, async (session, given = "") =>
    printItems<PersonaRevision>(session.context, {
      key: "revisions",
      items: session.client.listPersonaRevisions({ parent: belowTenant(session, "personas", given) }, session.call),
      columns: [
        { heading: "REVISION", cell: ({ name }) => shortName(name) },
        { heading: "DIGEST", cell: (revision) => digest(revision.digest) },
        { heading: "OUTCOME", cell: ({ composition }) => printable(composition?.outcome ?? "") },
        { heading: "CAUSE", cell: ({ cause }) => enumName(RevisionCauseSchema, cause) },
        { heading: "IN THE WAY", cell: ({ gate }) => gate.map(({ reason }) => printable(reason)).join(",") },
        { heading: "CREATED", cell: ({ createTime }) => time(createTime) },
        { heading: "BY", cell: ({ createdBy }) => printable(createdBy) },
      ],
    }),
  );

  const diff = persona
    .command("diff")
    .description("Compare two revisions: what was written, and the doses")
    .argument("<revision>", "PERSONA@NUMBER, or a full name")
    .argument("<other>", "PERSONA@NUMBER, or a full name")
    .addHelpText("after", examples(["persona diff cheerful@2 cheerful@3"]));
  onRegistry(diff, io, { roles: ["viewer"] }, diffRevisions);

  addActivationCommands(persona, io);

  for (const verb of ["delete", "undelete"] as const) {
    const command = persona
      .command(verb)
      .description(
        verb === "delete" ? "Delete a persona that is not active; it can be brought back" : "Bring a persona back",
      )
      .argument("<persona>")
      .addHelpText("after", examples([`persona ${verb} cheerful`]));
    addChangeOptions(command, "reason", "etag");
    onRegistry<ChangeOptions>(command, io, { roles: ["admin"] }, async (session, given = "") => {
      const name = belowTenant(session, "personas", given);
      const { personas } = session.client;
      const call = verb === "delete" ? personas.deletePersona : personas.undeletePersona;
      const response = await call({ name, ...changeFields(session.options) }, session.call);
      await finishChange(session, { name, response, lines: [`${verb}d ${name}`] });
    });
  }
}

function addWriteOptions(command: Command): Command {
  return addSpecOptions(command)
    .option("--display-name <text>", "name for people")
    .option("--description <text>", "what it is");
}

async function createPersona(session: RegistrySession<WriteOptions>, personaId = ""): Promise<void> {
  const { client, context, options, parent, call } = session;
  const spec = await specOf(session, options, context.io.cwd);
  if (spec === undefined) throw new UsageError("OPTIONS_CONFLICT", "a persona needs --term or --file");
  const { displayName = "", description = "" } = options;
  const persona = { displayName, description, spec };
  const response = await client.personas.createPersona({ parent, personaId, persona, ...changeFields(options) }, call);
  const lines = response.revision === undefined ? [] : revisionLines(response.revision);
  await finishChange(session, { name: `${parent}/personas/${personaId}`, response, lines });
}

async function updatePersona(session: RegistrySession<WriteOptions>, given = ""): Promise<void> {
  const { client, context, options, call } = session;
  const name = belowTenant(session, "personas", given);
  const spec = await specOf(session, options, context.io.cwd);
  const { displayName, description } = options;
  const paths = [
    ...(displayName === undefined ? [] : ["display_name"]),
    ...(description === undefined ? [] : ["description"]),
    ...(spec === undefined ? [] : ["spec"]),
  ];
  if (paths.length === 0) {
    throw new UsageError("OPTIONS_CONFLICT", "nothing to change: give --term, --file, --display-name or --description");
  }
  const { etag = "", ...change } = changeFields(options);
  const persona = {
    name,
    etag,
    displayName: displayName ?? "",
    description: description ?? "",
    ...(spec === undefined ? {} : { spec }),
  };
  const response = await client.personas.updatePersona({ persona, updateMask: { paths }, ...change }, call);
  const lines = response.revision === undefined ? [] : revisionLines(response.revision);
  await finishChange(session, { name, response, lines });
}

async function showPersona(session: RegistrySession<object>, given = ""): Promise<void> {
  const { client, context, call } = session;
  if (/@|\/revisions\//.test(given)) {
    const response = await client.personas.getPersonaRevision({ name: revisionName(session, given) }, call);
    await printAnswer(context, response, response.revision === undefined ? [] : revisionLines(response.revision));
    return;
  }
  const response = await client.personas.getPersona({ name: belowTenant(session, "personas", given) }, call);
  const { persona } = response;
  if (context.json || persona === undefined) {
    await printAnswer(context, response, []);
    return;
  }
  const lines = fields([
    ["persona", persona.name],
    ["display name", persona.displayName],
    ["description", persona.description],
    ["latest", shortName(persona.latestRevision)],
    ["released", shortName(persona.releasedRevision)],
    ["active", shortName(persona.activeRevision)],
    ["state", enumName(ResourceStateSchema, persona.state)],
    ["updated", time(persona.updateTime)],
    ["etag", persona.etag],
  ]);
  const { revision } = await client.personas.getPersonaRevision({ name: persona.latestRevision }, call);
  await context.printLines([...lines, "", ...(revision === undefined ? [] : revisionLines(revision))]);
}

async function diffRevisions(session: RegistrySession<object>, first = "", second = ""): Promise<void> {
  const { client, context, call } = session;
  const [name, otherName] = [revisionName(session, first), revisionName(session, second)];
  const response = await client.personas.diffPersonaRevisions({ name, otherName }, call);
  const dose = (value: number | undefined) => value?.toFixed(3) ?? "";
  const written = table(
    [
      { heading: "FIELD", cell: ({ field }) => printable(field) },
      { heading: "VALUE", cell: ({ valueJson }) => printable(valueJson) },
      { heading: "OTHER", cell: ({ otherValueJson }) => printable(otherValueJson) },
    ],
    response.fields,
  );
  const doses = table(
    [
      { heading: "LAYER", align: "right", cell: ({ layer }) => String(layer) },
      { heading: "DOSE", align: "right", cell: (layer) => dose(layer.dose) },
      { heading: "OTHER", align: "right", cell: ({ otherDose }) => dose(otherDose) },
    ],
    response.layers,
  );
  await printAnswer(context, response, response.fields.length === 0 ? doses : [...written, "", ...doses]);
}
