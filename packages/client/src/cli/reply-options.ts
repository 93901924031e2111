import type { Command } from "commander";
import { integer } from "./arguments.ts";
import type { GenerateInit } from "./generate-request.ts";

/** How many replies, and what is told of them. */
export interface ReplyOptions {
  n?: number;
  logprobs?: number;
  promptLogprobs?: true;
  twin?: boolean;
  twinActs?: true;
  guardObserve?: true;
}

const MAX_CHOICES = 16;
const MAX_LOG_PROBS = 20;

export function addReplyOptions(command: Command): Command {
  return command
    .optionsGroup("Replies:")
    .option("--n <count>", "so many replies to the prompt (default: 1)", integer(1, MAX_CHOICES))
    .option("--logprobs <k>", "with --json: the k most likely tokens at every position", integer(0, MAX_LOG_PROBS))
    .option("--prompt-logprobs", "with --json: log-probabilities of the prompt's tokens")
    .option("--twin", "compare with an unsteered twin (default: drawn by the tenant's policy)")
    .option("--no-twin", "no twin")
    .option("--twin-acts", "divergence from the twin lowers alpha too")
    .option("--guard-observe", "the guard reports and leaves alpha as it is; needs the role service");
}

export function replyRequest({
  n,
  logprobs,
  promptLogprobs,
  twin,
  twinActs,
  guardObserve,
}: ReplyOptions): Partial<GenerateInit> {
  const guard = {
    ...(twin === undefined ? {} : { twin }),
    ...(twinActs === undefined ? {} : { twinActs }),
    ...(guardObserve === undefined ? {} : { observeOnly: true }),
  };
  return {
    ...(n === undefined ? {} : { n }),
    ...(logprobs === undefined ? {} : { topLogProbs: logprobs }),
    ...(promptLogprobs === undefined ? {} : { promptLogProbs: true }),
    ...(Object.keys(guard).length === 0 ? {} : { guard }),
  };
}
