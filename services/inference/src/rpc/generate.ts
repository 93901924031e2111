import { randomBytes } from "node:crypto";
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { GenerateRequest, GenerateResponseSchema } from "@persona-mesh/protocol";
import type { CallContext } from "@persona-mesh/service";
import { watchReply } from "../guard/watch-reply.ts";
import { GenerateJob } from "../jobs/generate-job.ts";
import { interleave } from "../jobs/interleave.ts";
import { PromptLogProbsJob, type PromptToken } from "../jobs/prompt-log-probs-job.ts";
import type { ReplyOutcome, ServedReply } from "../telemetry/served-reply.ts";
import type { Worker } from "../worker.ts";
import { promptLogProbs, responseEvents } from "./generate-messages.ts";
import { type ReplySettings, replySettings } from "./generate-request.ts";
import { guardFields, watchRequest } from "./guard-messages.ts";
import { newJobId } from "./job-id.ts";
import { steeringFields } from "./persona-proof.ts";
import { selectPersona, wear } from "./persona-selection.ts";
import { encodePrompt } from "./prompt.ts";
import { runJobs } from "./run-jobs.ts";
import { failureOf, refusedReply, servedReply } from "./served-reply.ts";

type Response = MessageInitShape<typeof GenerateResponseSchema>;

/** Generate: a job in the batch for every reply, its events as messages. When the client goes, the jobs go. */
export async function* generate(
  worker: Worker,
  request: GenerateRequest,
  context: CallContext,
): AsyncGenerator<Response> {
  const settings = replySettings(worker, request);
  requireRoom(worker, request, context, settings.choices);
  const prompt = encodePrompt(worker, request.prompt);
  const facts = {
    requestId: context.requestId,
    seed: request.sampling?.seed ?? randomBytes(8).readBigUInt64LE(),
  };
  const jobs = Array.from({ length: settings.choices }, (_, choice) =>
    replyJob(worker, request, context, { settings, prompt, seed: facts.seed, choice }),
  );
  const outcomes: (ReplyOutcome | undefined)[] = jobs.map(() => undefined);
  const cancel = () => {
    // A call that is cut short is logged now: what it wore and wrote must be known by then.
    annotate(context, jobs);
    for (const { id } of jobs) worker.engine.cancel(id);
  };
  let failure: ReplyOutcome | undefined;
  try {
    const read = request.promptLogProbs ? await readPrompt(worker, context, prompt, settings, jobs) : undefined;
    // A signal that has fired already would never tell the listener.
    context.signal.throwIfAborted();
    for (const job of jobs) {
      job.queued();
      worker.engine.submit(job);
    }
    context.signal.addEventListener("abort", cancel, { once: true });
    for await (const [choice, event] of interleave(jobs.map(({ events }) => events))) {
      const job = jobs[choice] as GenerateJob;
      if (event.kind === "guard") {
        const { persona, gain } = job.worn;
        context.log.info(
          { ...steeringFields(persona, gain), ...guardFields(event.event) },
          "a window of the reply is out of bounds",
        );
      }
      if (event.kind === "finished") outcomes[choice] = { kind: "finished", reason: event.reply.reason };
      for (const told of responseEvents(worker, job, event, facts)) yield { event: told, choice };
      if (event.kind === "started" && choice === 0 && read !== undefined) {
        for (const told of promptLogProbs(read)) yield { event: told, choice };
      }
    }
  } catch (error) {
    failure = failureOf(error, context.signal);
    throw error;
  } finally {
    context.signal.removeEventListener("abort", cancel);
    cancel();
    failure ??= failureOf(undefined, context.signal);
    for (const [choice, job] of jobs.entries()) {
      const call = { operation: operationOf(request), choice, choices: jobs.length };
      worker.telemetry.replied(servedReply(job, outcomes[choice] ?? failure, call), context);
    }
  }
}

/** Before anything costs time. @throws ServiceError QUEUE_FULL, DRAINING */
function requireRoom(worker: Worker, request: GenerateRequest, context: CallContext, choices: number): void {
  try {
    worker.engine.requireRoom(context.caller.tenant);
  } catch (error) {
    const outcome = failureOf(error, context.signal);
    for (let choice = 0; choice < choices; choice++) {
      const call = { operation: operationOf(request), choice, choices };
      worker.telemetry.replied(refusedReply(outcome, call), context);
    }
    throw error;
  }
}

function operationOf({ prompt }: GenerateRequest): ServedReply["operation"] {
  return prompt?.input.case === "chat" ? "chat" : "text_completion";
}

interface ReplyFacts {
  readonly settings: ReplySettings;
  readonly prompt: readonly number[];
  readonly seed: bigint;
  readonly choice: number;
}

/** One reply of a call, with a persona of its own to wear and to lose. */
function replyJob(
  worker: Worker,
  request: GenerateRequest,
  { caller, requestId }: CallContext,
  { settings, prompt, seed, choice }: ReplyFacts,
): GenerateJob {
  const { tenant } = caller;
  const id = newJobId(requestId);
  const worn = selectPersona(worker, caller, request.persona);
  const room = worker.contextTokens - prompt.length;
  const watched = {
    id,
    tenant,
    prompt,
    worn,
    temperature: settings.sampling.temperature,
    maxTokens: Math.min(settings.maxTokens, room),
    policy: worker.personas.serving(tenant).guard,
    request: watchRequest(request.guard, caller),
  };
  return new GenerateJob({
    ...settings,
    id,
    tenant,
    prompt,
    worn,
    seed,
    choice,
    room,
    tokenizer: worker.text.tokenizer,
    watch: (onEvent) => watchReply(worker, watched, onEvent),
  });
}

/** Before any reply begins: what the model says of the prompt's own tokens, as the persona lets it. */
async function readPrompt(
  worker: Worker,
  { caller, requestId, signal }: CallContext,
  prompt: readonly number[],
  { topLogProbs }: ReplySettings,
  [first]: readonly GenerateJob[],
): Promise<readonly PromptToken[]> {
  const job = () =>
    new PromptLogProbsJob({
      id: newJobId(requestId),
      tenant: caller.tenant,
      prompt,
      worn: wear(worker, first?.worn.persona, first?.worn.gain),
      topLogProbs,
    });
  for await (const [, tokens] of runJobs(worker.engine, [job], signal)) return tokens;
  return [];
}

function annotate(context: CallContext, jobs: readonly GenerateJob[]): void {
  const [first] = jobs as readonly [GenerateJob, ...GenerateJob[]];
  const measures = first.measures();
  context.annotate({
    ...steeringFields(first.worn.persona, first.worn.gain),
    promptTokens: first.tokens,
    replyTokens: jobs.reduce((sum, { reply }) => sum + reply.length, 0),
    entropy: measures?.entropy ?? null,
    repetition: measures?.repetition ?? null,
    ...(jobs.length === 1 ? {} : { choices: jobs.length }),
  });
}
