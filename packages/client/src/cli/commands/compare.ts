import { randomBytes } from "node:crypto";
import type { Command } from "commander";
import type { GenerateInput, InferenceClient } from "../../client.ts";
import type { Reply } from "../../reply.ts";
import { connect } from "../connect.ts";
import { CommandContext } from "../context.ts";
import { UsageError } from "../failure.ts";
import { addGenerateOptions, type GenerateOptions, generateRequest } from "../generate-request.ts";
import { type CliIo, columnsOf } from "../io.ts";
import { addPersonaOptions, type PersonaInput, type PersonaOptions, personaSelector } from "../persona-option.ts";
import { progressOn } from "../progress.ts";
import { readPrompt } from "../prompt.ts";
import { replyJson } from "../reply-json.ts";
import { table } from "../table.ts";
import { printable, sideBySide, wrap } from "../text-layout.ts";
import { personaTitle } from "./generate.ts";

/** Narrower terminals get one text below the other: two columns of ten words are no comparison. */
const MIN_SIDE_BY_SIDE_COLUMNS = 60;

const HELP = `
Examples:
  $ persona compare "Where is my parcel?" --persona cheerful
  $ persona compare "Where is my parcel?" --persona cheerful --seed 7 --gain 0.5 --temperature 0.8
  $ persona compare - --active --json < question.txt

Both replies use the same prompt, the same seed and run at the same time, in one batch where the worker has room.
`;

export function addCompare(program: Command, io: CliIo): void {
  const command = program
    .command("compare")
    .description("Generate with and without a persona, side by side, with the same seed")
    .argument("[prompt]", '"-" or nothing: read it from the standard input')
    .addHelpText("after", HELP)
    .action((prompt: string | undefined, _options, self: Command) => compare(prompt, new CommandContext(io, self)));
  addPersonaOptions(addGenerateOptions(command), { unsteered: false });
}

async function compare(
  argument: string | undefined,
  context: CommandContext<GenerateOptions & PersonaOptions>,
): Promise<void> {
  const { options, io } = context;
  if (options.persona === undefined && !options.active) {
    throw new UsageError("OPTIONS_CONFLICT", "compare needs a persona: --persona NAME or --active");
  }
  const prompt = await readPrompt(argument, io);
  using connection = await connect(context, "operator");
  const seed = options.seed ?? BigInt(randomBytes(4).readUInt32LE());
  const requestOf = (persona: PersonaInput | undefined) => generateRequest(prompt, { ...options, seed }, persona);
  const [steered, unsteered] = await generateBoth(
    connection.client,
    requestOf(personaSelector(options, connection.tenant)),
    requestOf({ selector: { case: "unsteered", value: {} } }),
    context,
  );

  if (context.json) {
    await context.printJson({ seed: seed.toString(), steered: replyJson(steered), unsteered: replyJson(unsteered) });
    return;
  }
  await context.printLines([...layOut(steered, unsteered, columnsOf(io)), "", ...figures(steered, unsteered)]);
  context.note(`seed ${seed}`);
}

/** Both streams at once; when one fails the other is cancelled. */
async function generateBoth(
  client: InferenceClient,
  steered: GenerateInput,
  unsteered: GenerateInput,
  context: CommandContext,
): Promise<[steered: Reply, unsteered: Reply]> {
  const progress = progressOn(context.io);
  const failed = new AbortController();
  const signal = AbortSignal.any([context.signal, failed.signal]);
  const steps = { steered: 0, unsteered: 0 };
  const run = async (side: keyof typeof steps, request: GenerateInput) => {
    try {
      return await client.generateText(request, { signal }, () => {
        steps[side]++;
        progress.update(`with the persona: step ${steps.steered}, without: step ${steps.unsteered}`);
      });
    } catch (error) {
      failed.abort(error);
      throw error;
    }
  };
  const both = [run("steered", steered), run("unsteered", unsteered)] as const;
  try {
    // The first error is the cause, that of the other stream its echo; and neither may outlive this function.
    await Promise.allSettled(both);
    failed.signal.throwIfAborted();
    return await Promise.all(both);
  } finally {
    progress.end();
  }
}

function layOut(steered: Reply, unsteered: Reply, width: number): string[] {
  const columns = [
    { title: personaTitle(steered.started), text: printable(steered.text).trim() },
    { title: "unsteered", text: printable(unsteered.text).trim() },
  ];
  if (width >= MIN_SIDE_BY_SIDE_COLUMNS) return sideBySide(columns, width);
  return columns.flatMap(({ title, text }, index) => [
    ...(index > 0 ? [""] : []),
    title,
    "─".repeat(width),
    ...wrap(text, width),
  ]);
}

function figures(steered: Reply, unsteered: Reply): string[] {
  const right = { align: "right" } as const;
  return table<{ name: string; reply: Reply }>(
    [
      { heading: "", cell: ({ name }) => name },
      { heading: "tokens", ...right, cell: ({ reply }) => String(reply.finished.completionTokens) },
      { heading: "entropy", ...right, cell: ({ reply }) => reply.finished.meanEntropy.toFixed(3) },
      { heading: "surprisal", ...right, cell: ({ reply }) => reply.finished.meanSurprisal.toFixed(3) },
      { heading: "repetition", ...right, cell: ({ reply }) => reply.finished.repetition.toFixed(3) },
      { heading: "alpha", ...right, cell: ({ reply }) => (reply.finished.effectiveAlphaHundredths / 100).toFixed(2) },
    ],
    [
      { name: "persona", reply: steered },
      { name: "unsteered", reply: unsteered },
    ],
  );
}
