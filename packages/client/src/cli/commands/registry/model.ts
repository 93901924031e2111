import { basename } from "node:path";
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { Model, ModelSchema } from "@persona-mesh/protocol/registry";
import { RESOURCE_ID } from "@persona-mesh/service/client";
import type { Command } from "commander";
import { connect } from "../../connect.ts";
import type { CommandContext } from "../../context.ts";
import { UsageError } from "../../failure.ts";
import type { CliIo } from "../../io.ts";
import { modelPath } from "../../models.ts";
import { digest, shortName, time } from "../../registry/cells.ts";
import { addChangeOptions, type ChangeOptions, changeFields, finishChange } from "../../registry/change.ts";
import { modelName } from "../../registry/names.ts";
import { examples, fields, printAnswer, printItems } from "../../registry/output.ts";
import { readReferenceNorms } from "../../registry/reference-norms.ts";
import { onRegistry, type RegistrySession } from "../../registry/session.ts";

interface RegisterOptions extends ChangeOptions {
  package?: string;
  displayName?: string;
  norms?: string;
}

const PLATFORM = { roles: ["admin"], isPlatform: true } as const;

/** The registry's side of `persona model …`: which models vectors may belong to. The others are about packages on disk. */
export function addRegisteredModelCommands(model: Command, io: CliIo): void {
  const register = model
    .command("register")
    .description("Tell the registry of a model: the worker's, or that of a package (the platform's admins)")
    .argument("[name]", "lower-case letters, digits and hyphens; made from the package or the model where left out")
    .option("--package <model>", "a package or a name in the models directory; the worker at --address where not given")
    .option("--display-name <text>", "name for people")
    .option("--norms <file>", "reference norms of all layers: JSON array, or a vector file of all layers")
    .addHelpText("after", examples(["model register starter", "model register --package starter --dry-run"]));
  addChangeOptions(register);
  onRegistry<RegisterOptions>(register, io, PLATFORM, registerModel);

  const registered = model
    .command("registered")
    .description("List the models that the registry knows, or show one")
    .argument("[name]", "name, or model checksum")
    .option("--deleted", "deleted ones too")
    .addHelpText("after", examples(["model registered", "model registered starter --json"]));
  onRegistry<{ deleted?: true }>(registered, io, { roles: ["viewer"] }, listModels);

  const amend = model
    .command("amend")
    .description("Change what the registry calls a model, or its reference norms (the platform's admins)")
    .argument("<name>")
    .option("--display-name <text>", "name for people")
    .option("--norms <file>", "reference norms of all layers: JSON array, or a vector file of all layers")
    .addHelpText("after", examples(["model amend starter --norms all-layers.safetensors"]));
  addChangeOptions(amend, "reason", "etag");
  onRegistry<RegisterOptions>(amend, io, PLATFORM, amendModel);

  for (const [verb, description, done] of [
    ["unregister", "Take a model away that no version belongs to (the platform's admins)", "is gone"],
    ["reregister", "Bring a model back that was taken away (the platform's admins)", "is back"],
  ] as const) {
    const command = model
      .command(verb)
      .description(description)
      .argument("<name>")
      .addHelpText("after", examples([`model ${verb} starter`]));
    addChangeOptions(command, "reason", "etag");
    onRegistry<ChangeOptions>(command, io, PLATFORM, async (session, given = "") => {
      const name = modelName(given);
      const { models } = session.client;
      const call = verb === "unregister" ? models.deleteModel : models.undeleteModel;
      const response = await call({ name, ...changeFields(session.options) }, session.call);
      await finishChange(session, { name, response, lines: [`${name} ${done}`] });
    });
  }
}

type ModelInit = MessageInitShape<typeof ModelSchema>;

async function registerModel(session: RegistrySession<RegisterOptions>, given?: string): Promise<void> {
  const { client, context, options, call } = session;
  const { facts, name: found } = await (options.package === undefined
    ? factsOfWorker(context)
    : factsOfPackage(context, options.package));
  const modelId = given ?? found;
  const model = {
    ...facts,
    ...(options.displayName === undefined ? {} : { displayName: options.displayName }),
    ...(await normsOf(session)),
  };
  const response = await client.models.createModel({ modelId, model, ...changeFields(options) }, call);
  const name = `models/${modelId}`;
  const lines = [`registered ${name}: ${digest(facts.modelChecksum ?? "")}`];
  await finishChange(session, { name, response, lines });
}

interface Facts {
  readonly facts: Exclude<ModelInit, Model>;
  readonly name: string;
}

async function factsOfWorker(context: CommandContext): Promise<Facts> {
  using worker = await connect(context, "viewer");
  const { architecture, modelChecksum, layers, hiddenSize, vocabularySize, tokenizerDigest } =
    await worker.client.getModel({ signal: context.signal });
  return {
    facts: { architecture, modelChecksum, layers, hiddenSize, vocabularySize, tokenizerDigest },
    name: idOf(`${architecture}-${modelChecksum.slice(0, 8)}`),
  };
}

async function factsOfPackage(context: CommandContext, argument: string): Promise<Facts> {
  const { readManifest } = await import("@persona-mesh/model");
  const directory = await modelPath(context, argument);
  const { spec, modelChecksum, tokenizerDigest } = await readManifest(directory);
  return {
    facts: {
      architecture: spec.architecture,
      modelChecksum,
      layers: spec.layers,
      hiddenSize: spec.hidden,
      vocabularySize: spec.vocabulary,
      tokenizerDigest,
    },
    name: idOf(basename(directory)),
  };
}

/** A name that a resource can have, as near as it gets. */
function idOf(text: string): string {
  const id = text
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, "-")
    .replace(/^[^a-z]+/, "")
    .slice(0, 63)
    .replace(/-+$/, "");
  if (RESOURCE_ID.test(id)) return id;
  throw new UsageError("NAME_INVALID", `"${text}" gives no name for the model: give one`);
}

async function normsOf({ options, context }: RegistrySession<RegisterOptions>): Promise<{ referenceNorms?: number[] }> {
  return options.norms === undefined ? {} : { referenceNorms: await readReferenceNorms(options.norms, context.io.cwd) };
}

async function amendModel(session: RegistrySession<RegisterOptions>, given = ""): Promise<void> {
  const { client, options, call } = session;
  const name = modelName(given);
  const paths = [
    ...(options.displayName === undefined ? [] : ["display_name"]),
    ...(options.norms === undefined ? [] : ["reference_norms"]),
  ];
  if (paths.length === 0) {
    throw new UsageError("OPTIONS_CONFLICT", "nothing to change: give --display-name or --norms");
  }
  const { etag = "", ...change } = changeFields(options);
  const { displayName = "" } = options;
  const model = { name, etag, displayName, ...(await normsOf(session)) };
  const response = await client.models.updateModel({ model, updateMask: { paths }, ...change }, call);
  await finishChange(session, { name, response, lines: [`updated ${name}`] });
}

async function listModels(session: RegistrySession<{ deleted?: true }>, given?: string): Promise<void> {
  const { client, context, options, call } = session;
  if (given !== undefined) {
    const response = await client.models.getModel({ name: modelName(given) }, call);
    await printAnswer(context, response, response.model === undefined ? [] : modelLines(response.model));
    return;
  }
  await printItems(context, {
    key: "models",
    items: client.listModels({ showDeleted: options.deleted === true }, call),
    columns: [
      { heading: "MODEL", cell: ({ name }) => shortName(name) },
      { heading: "CHECKSUM", cell: ({ modelChecksum }) => digest(modelChecksum) },
      { heading: "ARCHITECTURE", cell: ({ architecture }) => architecture },
      { heading: "LAYERS", align: "right", cell: ({ layers }) => String(layers) },
      { heading: "HIDDEN", align: "right", cell: ({ hiddenSize }) => String(hiddenSize) },
      { heading: "NORMS", cell: ({ referenceNorms }) => (referenceNorms.length > 0 ? "yes" : "no") },
      { heading: "CREATED", cell: ({ createTime }) => time(createTime) },
    ],
  });
}

function modelLines(model: Model): string[] {
  return fields([
    ["model", shortName(model.name)],
    ["display name", model.displayName],
    ["model checksum", model.modelChecksum],
    ["tokenizer digest", model.tokenizerDigest],
    ["architecture", model.architecture],
    ["layers", String(model.layers)],
    ["hidden size", String(model.hiddenSize)],
    ["vocabulary", String(model.vocabularySize)],
    ["reference norms", model.referenceNorms.map((norm) => norm.toPrecision(4)).join(" ")],
    ["created", time(model.createTime)],
    ["deleted", time(model.deleteTime)],
    ["etag", model.etag],
  ]);
}
