import type { Message } from "@bufbuild/protobuf";
import type { Command } from "commander";
import type { GenerateInput } from "../client.ts";
import { decimal, integer, logitBias, repeated, repeatedInteger, seed } from "./arguments.ts";
import type { PersonaInput } from "./persona-option.ts";

/** What a prompt becomes, and how tokens are drawn from it. */
export interface GenerateOptions {
  system?: string;
  raw?: true;
  temperature?: number;
  topK?: number;
  topP?: number;
  minP?: number;
  seed?: bigint;
  repetitionPenalty?: number;
  presencePenalty?: number;
  frequencyPenalty?: number;
  logitBias?: LogitBias[];
  maxTokens?: number;
  minTokens?: number;
  stop?: string[];
  stopToken?: number[];
  ignoreEos?: true;
}

/** A request as it is written, not as a message. */
export type GenerateInit = Omit<Exclude<GenerateInput, Message>, "$typeName">;

interface LogitBias {
  readonly id: number;
  readonly bias: number;
}

/** Longer replies than any context. */
const MAX_TOKENS = 1 << 20;

/** Larger than any vocabulary. */
const MAX_TOP_K = 1 << 20;
const MAX_TOKEN_ID = 2 ** 32 - 1;

export function addGenerateOptions(command: Command): Command {
  return command
    .optionsGroup("Prompt:")
    .option("--system <text>", "system line in front of the prompt")
    .option("--raw", "the prompt as it is, without the model's chat template")
    .optionsGroup("Sampling:")
    .option("--temperature <t>", "0 is greedy (default: 1)", decimal(0, 10))
    .option("--top-k <k>", "keep the k most likely tokens", integer(0, MAX_TOP_K))
    .option("--top-p <share>", "keep the most likely tokens up to this mass", decimal(0, 1))
    .option("--min-p <share>", "keep tokens at least this share as likely as the most likely", decimal(0, 1))
    .option("--seed <n>", "the same seed gives the same text (default: random)", seed)
    .option("--repetition-penalty <r>", "over 1: tokens of prompt and reply are less likely again", decimal(0.001, 10))
    .option("--presence-penalty <p>", "taken from the logits of tokens in the reply", decimal(-2, 2))
    .option("--frequency-penalty <p>", "the same, for every time that a token is in it", decimal(-2, 2))
    .option("--logit-bias <id=bias>", "added to a token's logit, -100 rules it out; may be repeated", logitBias)
    .option("--max-tokens <n>", "longest reply (default: 256)", integer(1, MAX_TOKENS))
    .option("--min-tokens <n>", "shortest reply", integer(0, MAX_TOKENS))
    .option("--stop <text>", "end before this text; may be repeated", repeated)
    .option("--stop-token <id>", "end at this token; may be repeated", repeatedInteger(0, MAX_TOKEN_ID))
    .option("--ignore-eos", "go on after the model's end token");
}

/** @param persona - undefined leaves the choice to the worker: the tenant's active persona, where there is one */
export function generateRequest(
  prompt: string,
  options: GenerateOptions,
  persona: PersonaInput | undefined,
): GenerateInit {
  const { temperature, topK, topP, minP, repetitionPenalty, presencePenalty, frequencyPenalty } = options;
  const { maxTokens, minTokens } = options;
  return {
    prompt: { input: options.raw ? { case: "text", value: prompt } : { case: "chat", value: chatOf(prompt, options) } },
    sampling: {
      ...(temperature === undefined ? {} : { temperature }),
      ...(topK === undefined ? {} : { topK }),
      ...(topP === undefined ? {} : { topP }),
      ...(minP === undefined ? {} : { minP }),
      ...(options.seed === undefined ? {} : { seed: options.seed }),
      ...(repetitionPenalty === undefined ? {} : { repetitionPenalty }),
      ...(presencePenalty === undefined ? {} : { presencePenalty }),
      ...(frequencyPenalty === undefined ? {} : { frequencyPenalty }),
      ...(options.logitBias === undefined ? {} : { logitBias: options.logitBias }),
    },
    ...(maxTokens === undefined ? {} : { maxTokens }),
    ...(minTokens === undefined ? {} : { minTokens }),
    ...(persona === undefined ? {} : { persona }),
    ...(options.ignoreEos ? { ignoreEos: true } : {}),
    ...(options.stop === undefined ? {} : { stop: options.stop }),
    ...(options.stopToken === undefined ? {} : { stopTokenIds: options.stopToken }),
  };
}

function chatOf(prompt: string, { system }: GenerateOptions) {
  const messages = [{ role: "user", content: prompt }];
  return { messages: system === undefined ? messages : [{ role: "system", content: system }, ...messages] };
}
