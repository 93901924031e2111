import type { Command } from "commander";
import { integer } from "../../arguments.ts";
import type { CliIo } from "../../io.ts";
import { shortName, time } from "../../registry/cells.ts";
import { addChangeOptions, type ChangeOptions, changeFields, finishChange } from "../../registry/change.ts";
import { aliasName, belowTenant, versionOrAlias } from "../../registry/names.ts";
import { examples, fields, printAnswer, printItems } from "../../registry/output.ts";
import { onRegistry, type RegistrySession } from "../../registry/session.ts";
import { printable } from "../../text-layout.ts";

const ALIAS = "VECTOR@ALIAS, or a full name";
const MAX_TARGET = 2 ** 32 - 1;

/** `persona alias …`: names that point at versions, and that personas follow. */
export function addAliasCommands(alias: Command, io: CliIo): void {
  const set = alias
    .command("set")
    .description("Point an alias at a version; personas that use it follow in the same moment")
    .argument("<alias>", ALIAS)
    .argument("<version>", "VECTOR@DIGEST (8 digits or more), VECTOR@ALIAS, or a full name")
    .addHelpText(
      "after",
      examples(
        [
          "alias set cheerful@canary cheerful@3f2a9c01 --reason 'new pairs'",
          "alias set cheerful@production cheerful@canary --wait 10s",
        ],
        "production takes approved versions alone. --etag 0 says that there must be no such alias yet.",
      ),
    );
  addChangeOptions(set, "reason", "etag", "breakGlass", "wait");
  onRegistry<ChangeOptions>(set, io, { roles: ["admin"] }, setAlias);

  const rollback = alias
    .command("rollback")
    .description("Point an alias at an earlier target of it")
    .argument("<alias>", ALIAS)
    .option(
      "--to <number>",
      'number of the target in "alias history"; the one before where not given',
      integer(1, MAX_TARGET),
    )
    .addHelpText(
      "after",
      examples([
        "alias rollback cheerful@production --reason 'complaints'",
        "alias rollback cheerful@production --to 3",
      ]),
    );
  addChangeOptions(rollback, "reason", "etag", "breakGlass", "wait");
  onRegistry<RollbackOptions>(rollback, io, byBreakGlass, rollbackAlias);

  const show = alias
    .command("show")
    .description("Show where an alias points")
    .argument("<alias>", ALIAS)
    .addHelpText("after", examples(["alias show cheerful@production"]));
  onRegistry(show, io, { roles: ["viewer"] }, showAlias);

  const list = alias
    .command("list")
    .description("List the aliases of a vector")
    .argument("<vector>")
    .addHelpText("after", examples(["alias list cheerful"]));
  onRegistry(list, io, { roles: ["viewer"] }, async (session, given = "") =>
    printItems(session.context, {
      key: "aliases",
      items: session.client.listAliases({ parent: belowTenant(session, "vectors", given) }, session.call),
      columns: [
        { heading: "ALIAS", cell: ({ name }) => shortName(name) },
        { heading: "VERSION", cell: ({ version }) => shortName(version) },
        { heading: "SET", cell: ({ updateTime }) => time(updateTime) },
        { heading: "BY", cell: ({ updatedBy }) => printable(updatedBy) },
        { heading: "REASON", cell: ({ reason }) => printable(reason) },
      ],
    }),
  );

  const history = alias
    .command("history")
    .description("List everything an alias has pointed at, newest first")
    .argument("<alias>", ALIAS)
    .addHelpText("after", examples(["alias history cheerful@production"]));
  onRegistry(history, io, { roles: ["viewer"] }, async (session, given = "") =>
    printItems(session.context, {
      key: "targets",
      items: session.client.listAliasTargets({ parent: aliasName(session, given) }, session.call),
      columns: [
        { heading: "NUMBER", align: "right", cell: ({ number }) => String(number) },
        { heading: "VERSION", cell: ({ version }) => shortName(version) },
        { heading: "SET", cell: ({ setTime }) => time(setTime) },
        { heading: "BY", cell: ({ setBy }) => printable(setBy) },
        { heading: "BREAK-GLASS", cell: ({ breakGlass }) => (breakGlass ? "yes" : "no") },
        { heading: "REASON", cell: ({ reason }) => printable(reason) },
      ],
    }),
  );

  const remove = alias
    .command("delete")
    .description("Delete an alias that no persona refers to")
    .argument("<alias>", ALIAS)
    .addHelpText("after", examples(["alias delete cheerful@canary"]));
  addChangeOptions(remove, "reason", "etag");
  onRegistry<ChangeOptions>(remove, io, { roles: ["admin"] }, async (session, given = "") => {
    const name = aliasName(session, given);
    const response = await session.client.vectors.deleteAlias({ name, ...changeFields(session.options) }, session.call);
    await finishChange(session, { name, response, lines: [`deleted ${name}`] });
  });
}

/** Past approval goes an admin alone. */
const byBreakGlass = {
  roles: ({ breakGlass }: ChangeOptions) => [breakGlass === undefined ? ("operator" as const) : ("admin" as const)],
};

interface RollbackOptions extends ChangeOptions {
  to?: number;
}

async function setAlias(session: RegistrySession<ChangeOptions>, given = "", target = ""): Promise<void> {
  const { client, options, call } = session;
  const name = aliasName(session, given);
  let version = await versionOrAlias(session, target);
  // An alias points at a version, not at another alias: at where that one points now.
  if (version.includes("/aliases/")) {
    version = (await client.vectors.getVersion({ name: version }, call)).version?.name ?? version;
  }
  const { etag = "", ...change } = changeFields(options);
  const response = await client.vectors.setAlias({ alias: { name, version, etag }, ...change }, call);
  await finishMove(session, name, response);
}

async function rollbackAlias(session: RegistrySession<RollbackOptions>, given = ""): Promise<void> {
  const { client, options, call } = session;
  const name = aliasName(session, given);
  const target = options.to ?? 0;
  const response = await client.vectors.rollbackAlias({ name, target, ...changeFields(options) }, call);
  await finishMove(session, name, response);
}

type Moved = Awaited<ReturnType<RegistrySession<object>["client"]["vectors"]["setAlias" | "rollbackAlias"]>>;

async function finishMove(session: RegistrySession<ChangeOptions>, name: string, response: Moved): Promise<void> {
  const { alias, personaRevisions, revision } = response;
  const lines = [
    `${shortName(name)} points at ${shortName(alias?.version ?? "")}`,
    ...personaRevisions.map((made) => `  made persona ${shortName(made)}`),
  ];
  await finishChange(session, { name, response, lines, revision });
}

async function showAlias(session: RegistrySession<object>, given = ""): Promise<void> {
  const response = await session.client.vectors.getAlias({ name: aliasName(session, given) }, session.call);
  const { alias } = response;
  const lines =
    alias === undefined
      ? []
      : fields([
          ["alias", alias.name],
          ["version", shortName(alias.version)],
          ["digest", alias.version.split("/").at(-1) ?? ""],
          ["reason", alias.reason],
          ["set by", alias.updatedBy],
          ["set", time(alias.updateTime)],
          ["etag", alias.etag],
        ]);
  await printAnswer(session.context, response, lines);
}
