import { GuardCauseSchema, type Started } from "@persona-mesh/protocol";
import type { Command } from "commander";
import { collectReply, type GenerateEvent, type Reply } from "../../reply.ts";
import { connect } from "../connect.ts";
import { CommandContext } from "../context.ts";
import { enumName } from "../enum-name.ts";
import { UsageError } from "../failure.ts";
import { addGenerateOptions, type GenerateOptions, generateRequest } from "../generate-request.ts";
import { addHeatOptions, type HeatOptions, HeatView } from "../heat-view.ts";
import type { CliIo } from "../io.ts";
import { addPersonaOptions, type PersonaOptions, personaSelector } from "../persona-option.ts";
import { readPrompt } from "../prompt.ts";
import { replyJson, tokensPerSecond } from "../reply-json.ts";
import { addReplyOptions, type ReplyOptions, replyRequest } from "../reply-options.ts";
import { printable } from "../text-layout.ts";

const HELP = `
Examples:
  $ persona generate "Where is my parcel?"
  $ persona generate "Where is my parcel?" --persona cheerful --gain 0.5 --seed 7
  $ git log -5 | persona generate - --system "Summarise for a customer." --unsteered
  $ persona generate "Tell me a story" --active --follow --max-tokens 500
  $ persona generate "Hello" --persona cheerful --json | jq .proof
  $ persona generate "Where is my parcel?" --persona cheerful --heat --html reply.html

Without --persona, --active or --unsteered the tenant's active persona speaks, where there is one.
`;

export function addGenerate(program: Command, io: CliIo): void {
  const command = program
    .command("generate")
    .description("Generate text and print it as it is made")
    .argument("[prompt]", '"-" or nothing: read it from the standard input')
    .addHelpText("after", HELP)
    .action((prompt: string | undefined, _options, self: Command) => generate(prompt, new CommandContext(io, self)));
  addHeatOptions(addReplyOptions(addPersonaOptions(addGenerateOptions(command), { unsteered: true })));
}

async function generate(
  argument: string | undefined,
  context: CommandContext<GenerateOptions & PersonaOptions & ReplyOptions & HeatOptions>,
): Promise<void> {
  const { options, signal } = context;
  await using heat = await HeatView.open(context);
  const isSeveral = (options.n ?? 1) > 1;
  if (isSeveral && heat !== undefined) {
    throw new UsageError("OPTIONS_CONFLICT", "--heat and --html show one reply: leave out --n");
  }
  const prompt = await readPrompt(argument, context.io);
  using connection = await connect(context, "operator");
  const persona = personaSelector(options, connection.tenant);
  const request = { ...generateRequest(prompt, options, persona), ...replyRequest(options) };
  const logProbs = options.logprobs !== undefined;
  if (isSeveral) {
    await printAll(await connection.client.generateTexts(request, { signal }), context, logProbs);
    return;
  }
  const stream = connection.client.generate(request, { signal });
  const events = heat?.observe(stream) ?? stream;
  if (context.json) {
    const reply = await collectReply(events);
    await heat?.finish(reply, prompt);
    await context.printJson(replyJson(reply, { logProbs }));
    return;
  }
  let atLineStart = true;
  // A terminal acts on control characters of the text; a file or a pipe gets the text as it is.
  const shown = context.io.stdout.isTTY ? printable : (text: string) => text;
  const print = async (text: string) => {
    if (text === "") return;
    await context.print(heat?.paint(shown(text)) ?? shown(text));
    atLineStart = text.endsWith("\n");
  };
  try {
    const reply = await collectReply(announceSwitches(events, context), print);
    if (!atLineStart) await print("\n");
    await heat?.finish(reply, prompt);
    if (context.io.stderr.isTTY) context.note(summary(reply));
  } finally {
    // An error or an interrupt in the middle of a line: what follows starts on its own.
    if (!atLineStart && context.io.stdout.isTTY) context.io.stdout.write("\n");
  }
}

/** Several replies side by side cannot be shown as they are made: each whole, in the order of the choices. */
async function printAll(replies: readonly Reply[], context: CommandContext, logProbs: boolean): Promise<void> {
  if (context.json) {
    await context.printJson({ replies: replies.map((reply) => replyJson(reply, { logProbs })) });
    return;
  }
  for (const [choice, reply] of replies.entries()) {
    const text = context.io.stdout.isTTY ? printable(reply.text) : reply.text;
    context.note(`${choice + 1} of ${replies.length} · ${summary(reply)}`);
    await context.print(text.endsWith("\n") ? text : `${text}\n`);
  }
}

/** Says on stderr which persona took over and what the guard did; passes every event on. */
async function* announceSwitches(
  events: AsyncIterable<GenerateEvent>,
  context: CommandContext,
): AsyncGenerator<GenerateEvent> {
  for await (const event of events) {
    if (event.case === "personaSwitched") {
      const { persona, afterTokens, switchMicros } = event.value;
      context.note(
        `\n[${persona?.name || "no persona"} from token ${afterTokens + 1}, switched in ${switchMicros.toFixed(1)} µs]`,
      );
    }
    if (event.case === "guard") {
      const { afterTokens, cause, alphaBeforeHundredths, alphaAfterHundredths } = event.value;
      context.note(
        `\n[guard: ${enumName(GuardCauseSchema, cause)} after token ${afterTokens}, alpha ${alpha(alphaBeforeHundredths)} → ${alpha(alphaAfterHundredths)}]`,
      );
    }
    yield event;
  }
}

function alpha(hundredths: number): string {
  return (hundredths / 100).toFixed(2);
}

function summary(reply: Reply): string {
  const { finished, started } = reply;
  return [
    personaTitle(started),
    `${finished.promptTokens} + ${finished.completionTokens} tokens`,
    `${tokensPerSecond(reply).toFixed(1)} tokens/s`,
    `entropy ${finished.meanEntropy.toFixed(2)}`,
    `seed ${started.seed}`,
  ].join(" · ");
}

/** "cheerful, alpha 0.35", or "unsteered". */
export function personaTitle({ persona }: Pick<Started, "persona">): string {
  if (persona === undefined) return "unsteered";
  const name = persona.name.split("/").at(-1) || "inline persona";
  return `${printable(name)}, alpha ${alpha(persona.effectiveAlphaHundredths)}`;
}
