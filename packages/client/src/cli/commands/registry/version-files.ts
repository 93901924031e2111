import { resolve } from "node:path";
import type { Command } from "commander";
import { readBoundedBytes } from "../../../binary-file.ts";
import { parsePairs } from "../../../contrast-samples.ts";
import { MAX_SAMPLES_FILE_BYTES, readJsonFile } from "../../../json-file.ts";
import { seed } from "../../arguments.ts";
import type { CliIo } from "../../io.ts";
import { NewFile } from "../../new-file.ts";
import { addChangeOptions } from "../../registry/change.ts";
import { addEvaluationOptions } from "../../registry/evaluation-options.ts";
import { versionName, versionOrAlias } from "../../registry/names.ts";
import { examples } from "../../registry/output.ts";
import { type PublishOptions, publish } from "../../registry/publish.ts";
import { onRegistry, type RegistrySession } from "../../registry/session.ts";

/** Larger than what the registry takes, so that its own refusal is what people see. */
const MAX_CONTENT_BYTES = 16 << 20;

interface FileOptions extends PublishOptions {
  pairs?: string;
  tone?: string;
  parent?: string;
  seed?: bigint;
  requestedBy?: string;
  job?: string;
  tokenizerDigest?: string;
}

export function addVersionPublish(version: Command, io: CliIo): void {
  const command = version
    .command("publish")
    .description("Publish a vector file as a version; the same bytes again give the version that is there")
    .argument("<file>", 'vector file, as "vector extract" makes it')
    .requiredOption("--vector <name>", "the vector it is a version of")
    .option("--pairs <file>", "the contrastive pairs it was made from")
    .option("--tone <name>", "which concept of a pairs file of several")
    .option("--parent <version>", "the version that it replaces")
    .option("--seed <n>", "of everything random in its making", seed)
    .option("--requested-by <subject>", "who started the job that made it; counts as a submitter")
    .option("--job <id>", "the job that made it")
    .option("--tokenizer-digest <sha256>", "of the tokenizer that its activations were captured with");
  addEvaluationOptions(command).addHelpText(
    "after",
    examples([
      "version publish cheerful.safetensors --vector cheerful --pairs pairs.json --alpha-min 0 --alpha-max 0.4",
      "version publish cheerful.safetensors --vector cheerful --figure coherence=0.93 --alpha-min 0 --alpha-max 0.4 --dry-run",
    ]),
  );
  addChangeOptions(command, "reason");
  onRegistry<FileOptions>(command, io, { roles: ["admin"] }, publishFile);
}

async function publishFile(session: RegistrySession<FileOptions>, file = ""): Promise<void> {
  const { options, context } = session;
  const { parent, requestedBy = "", job = "", tokenizerDigest = "" } = options;
  const content = await readBoundedBytes(resolve(context.io.cwd, file), MAX_CONTENT_BYTES);
  await publish(session, content, {
    pairsJson:
      options.pairs === undefined ? "" : await canonicalPairs(resolve(context.io.cwd, options.pairs), options.tone),
    parentVersion: parent === undefined ? "" : await versionName(session, parent),
    ...(options.seed === undefined ? {} : { seed: options.seed }),
    requestedBy,
    job,
    tokenizerDigest,
  });
}

/** The spelling that the manifest's digest is taken over. */
async function canonicalPairs(file: string, tone: string | undefined): Promise<string> {
  const { canonicalJson } = await import("@persona-mesh/steering");
  const pairs = parsePairs(await readJsonFile(file, MAX_SAMPLES_FILE_BYTES), tone, file);
  return canonicalJson(pairs.map((pair) => ({ ...pair })) as Parameters<typeof canonicalJson>[0]);
}

interface ContentOptions {
  out: string;
  overwrite?: true;
}

export function addVersionContent(version: Command, io: CliIo): void {
  const command = version
    .command("content")
    .description("Write the bytes of a version to a file; every read is in the audit")
    .argument("<version>", "VECTOR@DIGEST (8 digits or more), VECTOR@ALIAS, or a full name")
    .requiredOption("--out <file>", "vector file to write (safetensors)")
    .option("--overwrite", "replace the file where it exists")
    .addHelpText("after", examples(["version content cheerful@production --out cheerful.safetensors"]));
  onRegistry<ContentOptions>(command, io, { roles: ["operator"] }, writeContent);
}

async function writeContent(session: RegistrySession<ContentOptions>, given = ""): Promise<void> {
  const { client, context, options, call } = session;
  const path = resolve(context.io.cwd, options.out);
  await using file = await NewFile.create(path, { overwrite: options.overwrite === true });
  const { version, content } = await client.vectors.getVersionContent(
    { name: await versionOrAlias(session, given) },
    call,
  );
  await file.commit(content);
  const { name = "", digest = "" } = version ?? {};
  if (context.json) await context.printJson({ file: path, name, digest, bytes: content.byteLength });
  else await context.printLines([`${digest}  ${options.out}`]);
}
