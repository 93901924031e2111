import { ResourceStateSchema } from "@persona-mesh/protocol/registry";
import type { Command } from "commander";
import { enumName } from "../../enum-name.ts";
import { UsageError } from "../../failure.ts";
import type { CliIo } from "../../io.ts";
import { shortName, time } from "../../registry/cells.ts";
import { addChangeOptions, type ChangeOptions, changeFields, finishChange } from "../../registry/change.ts";
import { belowTenant } from "../../registry/names.ts";
import { examples, fields, printAnswer, printItems } from "../../registry/output.ts";
import { onRegistry, type RegistrySession } from "../../registry/session.ts";

/** What people say of a vector or a persona. */
interface TextOptions extends ChangeOptions {
  displayName?: string;
  description?: string;
}

/** `persona vector …` of the registry: named concepts of a tenant. */
export function addVectorCommands(vector: Command, io: CliIo): void {
  const create = vector
    .command("create")
    .description("Make a vector: the name under which versions are published")
    .argument("<id>", "lower-case letters, digits and hyphens")
    .option("--display-name <text>", "name for people")
    .option("--description <text>", "what it is")
    .addHelpText("after", examples(["vector create cheerful", "vector create cheerful --tenant globex --dry-run"]));
  addChangeOptions(create);
  onRegistry<TextOptions>(create, io, { roles: ["admin"] }, async (session, vectorId = "") => {
    const { client, options, parent, call } = session;
    const { displayName = "", description = "" } = options;
    const request = { parent, vectorId, vector: { displayName, description }, ...changeFields(options) };
    const response = await client.vectors.createVector(request, call);
    const name = response.vector?.name ?? "";
    await finishChange(session, { name, response, lines: [`created ${name}`] });
  });

  const show = vector
    .command("show")
    .description("Show a vector")
    .argument("<vector>")
    .addHelpText("after", examples(["vector show cheerful", "vector show tenants/acme/vectors/cheerful --json"]));
  onRegistry(show, io, { roles: ["viewer"] }, showVector);

  const list = vector
    .command("list")
    .description("List the tenant's vectors")
    .option("--deleted", "deleted ones too")
    .addHelpText("after", examples(["vector list", "vector list --json | jq -r '.vectors[].name'"]));
  onRegistry<{ deleted?: true }>(list, io, { roles: ["viewer"] }, async ({ context, client, parent, call }) =>
    printItems(context, {
      key: "vectors",
      items: client.listVectors({ parent, showDeleted: context.options.deleted === true }, call),
      columns: [
        { heading: "VECTOR", cell: ({ name }) => shortName(name) },
        { heading: "VERSIONS", align: "right", cell: ({ versionCount }) => String(versionCount) },
        { heading: "LATEST", cell: ({ latestVersion }) => shortName(latestVersion) },
        { heading: "STATE", cell: ({ state }) => enumName(ResourceStateSchema, state) },
        { heading: "UPDATED", cell: ({ updateTime }) => time(updateTime) },
      ],
    }),
  );

  const update = vector
    .command("update")
    .description("Change what is said of a vector")
    .argument("<vector>")
    .option("--display-name <text>", "name for people")
    .option("--description <text>", "what it is")
    .addHelpText("after", examples(["vector update cheerful --description 'warm, never silly'"]));
  addChangeOptions(update, "reason", "etag");
  onRegistry<TextOptions>(update, io, { roles: ["admin"] }, updateVector);

  for (const verb of ["delete", "undelete"] as const) {
    const command = vector
      .command(verb)
      .description(
        verb === "delete" ? "Delete a vector that nothing refers to; it can be brought back" : "Bring a vector back",
      )
      .argument("<vector>")
      .addHelpText("after", examples([`vector ${verb} cheerful`]));
    addChangeOptions(command, "reason", "etag");
    onRegistry<ChangeOptions>(command, io, { roles: ["admin"] }, async (session, given = "") => {
      const name = belowTenant(session, "vectors", given);
      const { vectors } = session.client;
      const call = verb === "delete" ? vectors.deleteVector : vectors.undeleteVector;
      const response = await call({ name, ...changeFields(session.options) }, session.call);
      await finishChange(session, { name, response, lines: [`${verb}d ${name}`] });
    });
  }
}

async function showVector(session: RegistrySession<object>, given = ""): Promise<void> {
  const name = belowTenant(session, "vectors", given);
  const response = await session.client.vectors.getVector({ name }, session.call);
  const { vector } = response;
  const lines =
    vector === undefined
      ? []
      : fields([
          ["vector", vector.name],
          ["display name", vector.displayName],
          ["description", vector.description],
          ["versions", String(vector.versionCount)],
          ["latest", shortName(vector.latestVersion)],
          ["state", enumName(ResourceStateSchema, vector.state)],
          ["created", time(vector.createTime)],
          ["updated", time(vector.updateTime)],
          ["deleted", time(vector.deleteTime)],
          ["etag", vector.etag],
        ]);
  await printAnswer(session.context, response, lines);
}

async function updateVector(session: RegistrySession<TextOptions>, given = ""): Promise<void> {
  const { client, options, call } = session;
  const name = belowTenant(session, "vectors", given);
  const { displayName, description } = options;
  const paths = [
    ...(displayName === undefined ? [] : ["display_name"]),
    ...(description === undefined ? [] : ["description"]),
  ];
  if (paths.length === 0) {
    throw new UsageError("OPTIONS_CONFLICT", "nothing to change: give --display-name or --description");
  }
  const { etag = "", ...change } = changeFields(options);
  const vector = { name, etag, displayName: displayName ?? "", description: description ?? "" };
  const response = await client.vectors.updateVector({ vector, updateMask: { paths }, ...change }, call);
  await finishChange(session, { name, response, lines: [`updated ${name}`] });
}
