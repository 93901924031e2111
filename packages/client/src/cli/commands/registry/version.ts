import { type Version, VersionStateSchema } from "@persona-mesh/protocol/registry";
import type { Command } from "commander";
import { enumName } from "../../enum-name.ts";
import { UsageError } from "../../failure.ts";
import type { CliIo } from "../../io.ts";
import { digest, shortName, time } from "../../registry/cells.ts";
import {
  addChangeOptions,
  type ChangeOptions,
  changeFields,
  finishChange,
  isConfirmed,
} from "../../registry/change.ts";
import { addEvaluationOptions, type EvaluationOptions, evaluationOf } from "../../registry/evaluation-options.ts";
import { belowTenant, modelName, versionName, versionOrAlias } from "../../registry/names.ts";
import { examples, printAnswer, printItems } from "../../registry/output.ts";
import { onRegistry, type RegistrySession } from "../../registry/session.ts";
import { alphaRange, approval, versionLines } from "../../registry/version-lines.ts";
import { table } from "../../table.ts";
import { printable } from "../../text-layout.ts";
import { addVersionContent, addVersionPublish } from "./version-files.ts";

const VERSION = "VECTOR@DIGEST (8 digits or more), VECTOR@ALIAS, or a full name";

/** `persona version …`: what was published of a vector, for ever. */
export function addVersionCommands(version: Command, io: CliIo): void {
  addVersionPublish(version, io);

  const show = version
    .command("show")
    .description("Show a version: where it comes from, what it was seen to do, who approved it")
    .argument("<version>", VERSION)
    .option("--manifest", "the manifest inside its bytes, as JSON, and nothing else")
    .addHelpText("after", examples(["version show cheerful@production", "version show cheerful@3f2a9c01 --manifest"]));
  onRegistry<{ manifest?: true }>(show, io, { roles: ["viewer"] }, showVersion);

  const list = version
    .command("list")
    .description("List the versions of a vector, newest first")
    .argument("<vector>")
    .option("--model <name>", "only those of this model: name, or model checksum")
    .addHelpText("after", examples(["version list cheerful", "version list cheerful --model starter --json"]));
  onRegistry<{ model?: string }>(list, io, { roles: ["viewer"] }, listVersions);

  addVersionContent(version, io);

  const evaluate = version
    .command("evaluate")
    .description("Add evaluation figures to a version; the newest range of alphas is the one that holds")
    .argument("<version>", VERSION);
  addEvaluationOptions(evaluate).addHelpText(
    "after",
    examples(["version evaluate cheerful@3f2a9c01 --alpha-min 0 --alpha-max 0.4 --figure coherence=0.93"]),
  );
  addChangeOptions(evaluate, "reason");
  onRegistry<EvaluationOptions & ChangeOptions>(evaluate, io, { roles: ["admin"] }, evaluateVersion);

  const diff = version
    .command("diff")
    .description("Compare two versions: cosine and norm by layer, and what their manifests say differently")
    .argument("<version>", VERSION)
    .argument("<other>", VERSION)
    .addHelpText("after", examples(["version diff cheerful@production cheerful@3f2a9c01"]));
  onRegistry(diff, io, { roles: ["operator"] }, diffVersions);

  const revoke = version
    .command("revoke")
    .description("The kill switch: no worker that has heard of it serves the version again, for good")
    .argument("<version>", "VECTOR@DIGEST (8 digits or more), or a full name")
    .option("--force", "also while aliases or personas use it; those personas are not served any more")
    .addHelpText(
      "after",
      examples(
        ["version revoke cheerful@3f2a9c01 --reason 'insults customers' --force --yes"],
        "Waits for the workers, 5 s where --wait says nothing else, and ends with 6 where one of them is behind.",
      ),
    );
  addChangeOptions(revoke, "reason", "yes", "wait");
  onRegistry<RevokeOptions>(revoke, io, { roles: ["approver"] }, revokeVersion);
}

interface RevokeOptions extends ChangeOptions {
  force?: true;
}

async function showVersion(session: RegistrySession<{ manifest?: true }>, given = ""): Promise<void> {
  const { client, context, options, call } = session;
  const response = await client.vectors.getVersion({ name: await versionOrAlias(session, given) }, call);
  const { version } = response;
  if (options.manifest) await context.print(`${version?.manifestJson ?? ""}\n`);
  else await printAnswer(context, response, version === undefined ? [] : versionLines(version));
}

async function listVersions(session: RegistrySession<{ model?: string }>, given = ""): Promise<void> {
  const { client, context, options, call } = session;
  const modelChecksum = options.model === undefined ? "" : await checksumOf(session, options.model);
  await printItems<Version>(context, {
    key: "versions",
    items: client.listVersions({ parent: belowTenant(session, "vectors", given), modelChecksum }, call),
    columns: [
      { heading: "VERSION", cell: ({ name }) => shortName(name) },
      { heading: "MODEL", cell: (it) => digest(it.modelChecksum) },
      { heading: "LAYERS", cell: ({ layers }) => layers.join(",") },
      { heading: "ALPHAS", cell: alphaRange },
      { heading: "APPROVAL", cell: approval },
      { heading: "STATE", cell: ({ state }) => enumName(VersionStateSchema, state) },
      { heading: "SUBMITTER", cell: ({ submitter }) => printable(submitter) },
      { heading: "CREATED", cell: ({ createTime }) => time(createTime) },
    ],
  });
}

async function checksumOf({ client, call }: RegistrySession<unknown>, model: string): Promise<string> {
  if (/^[0-9a-f]{64}$/.test(model)) return model;
  const { model: found } = await client.models.getModel({ name: modelName(model) }, call);
  return found?.modelChecksum ?? "";
}

async function evaluateVersion(session: RegistrySession<EvaluationOptions & ChangeOptions>, given = ""): Promise<void> {
  const { client, options, call } = session;
  const evaluation = evaluationOf(options);
  if (evaluation === undefined) {
    throw new UsageError("OPTIONS_CONFLICT", "an evaluation needs --alpha-min and --alpha-max");
  }
  const name = await versionName(session, given);
  const response = await client.vectors.addEvaluation({ name, evaluation, ...changeFields(options) }, call);
  await finishChange(session, { name, response, lines: response.version ? versionLines(response.version) : [] });
}

async function diffVersions(session: RegistrySession<object>, first = "", second = ""): Promise<void> {
  const { client, context, call } = session;
  const [name, otherName] = [await versionOrAlias(session, first), await versionOrAlias(session, second)];
  const response = await client.vectors.diffVersions({ name, otherName }, call);
  const norm = (value: number | undefined) => (value === undefined ? "" : value.toPrecision(4));
  const layers = table(
    [
      { heading: "LAYER", align: "right", cell: ({ layer }) => String(layer) },
      { heading: "COSINE", align: "right", cell: ({ cosine }) => cosine?.toFixed(4) ?? "" },
      { heading: "REFERENCE NORM", align: "right", cell: ({ referenceNorm }) => norm(referenceNorm) },
      { heading: "OTHER", align: "right", cell: ({ otherReferenceNorm }) => norm(otherReferenceNorm) },
    ],
    response.layers,
  );
  const differing = table(
    [
      { heading: "FIELD", cell: ({ field }) => printable(field) },
      { heading: "VALUE", cell: ({ valueJson }) => printable(valueJson) },
      { heading: "OTHER", cell: ({ otherValueJson }) => printable(otherValueJson) },
    ],
    response.fields,
  );
  await printAnswer(context, response, response.fields.length === 0 ? layers : [...layers, "", ...differing]);
}

async function revokeVersion(session: RegistrySession<RevokeOptions>, given = ""): Promise<void> {
  const { client, context, options, call } = session;
  if (options.reason === undefined) throw new UsageError("OPTIONS_CONFLICT", "revoking needs --reason");
  const name = await versionName(session, given);
  if (!(await isConfirmed(context, `Revoke ${name} for good?`))) return;
  const response = await client.vectors.revokeVersion(
    { name, force: options.force === true, ...changeFields(options) },
    call,
  );
  const { revision, referrers } = response;
  const lines = [
    `${options.dryRun ? "would revoke" : "revoked"} ${name}`,
    ...referrers.map((referrer) => `  still used by ${shortName(referrer)}`),
  ];
  await finishChange(session, { name, response, lines, revision }, { alwaysWaits: true });
}
