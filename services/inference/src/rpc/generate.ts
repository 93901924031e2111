import { randomBytes } from "node:crypto";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { FinishReason, type GenerateRequest, type GenerateResponseSchema, type Sampling } from "@persona-mesh/protocol";
import { type CallContext, type FieldViolation, ServiceError } from "@persona-mesh/service";
import { watchReply } from "../guard/watch-reply.ts";
import { type GenerateEvent, GenerateJob } from "../jobs/generate-job.ts";
import { MAX_STOP_CHARACTERS, MAX_STOPS, MAX_TEMPERATURE, type SamplingParameters } from "../sampling/index.ts";
import type { FinishReason as Finish } from "../scheduler/index.ts";
import type { ReplyOutcome } from "../telemetry/served-reply.ts";
import type { Worker } from "../worker.ts";
import { guardEvent, guardFields, watchFields, watchRequest } from "./guard-messages.ts";
import { newJobId } from "./job-id.ts";
import { personaProof, steeringFields } from "./persona-proof.ts";
import { selectPersona } from "./persona-selection.ts";
import { encodePrompt } from "./prompt.ts";
import { failureOf, servedReply } from "./served-reply.ts";

const DEFAULT_MAX_TOKENS = 256;

/** Alternatives per token: what other generation services allow. */
const MAX_TOP_LOG_PROBS = 20;

const FINISH_REASONS: Record<Exclude<Finish, "prefilled">, FinishReason> = {
  end: FinishReason.END,
  stop: FinishReason.STOP,
  maxTokens: FinishReason.MAX_TOKENS,
  context: FinishReason.CONTEXT,
};

type Response = MessageInitShape<typeof GenerateResponseSchema>;

/** Generate: a job in the batch, its events as messages. When the client goes, the job goes. */
export async function* generate(
  worker: Worker,
  request: GenerateRequest,
  context: CallContext,
): AsyncGenerator<Response> {
  const { tokens } = worker.model.manifest;
  const sampling = samplingOf(request);
  const prompt = encodePrompt(worker, request.prompt);
  const worn = selectPersona(worker, context.caller, request.persona);
  const seed = request.sampling?.seed ?? randomBytes(8).readBigUInt64LE();
  const { tenant } = context.caller;
  const id = newJobId(context.requestId);
  const maxTokens = request.maxTokens ?? DEFAULT_MAX_TOKENS;
  const room = worker.contextTokens - prompt.length;
  const watched = {
    id,
    tenant,
    prompt,
    worn,
    temperature: sampling.temperature,
    maxTokens: Math.min(maxTokens, room),
    policy: worker.personas.serving(tenant).guard,
    request: watchRequest(request.guard, context.caller),
  };
  const job = new GenerateJob({
    id,
    tenant,
    prompt,
    worn,
    sampling,
    seed,
    maxTokens,
    room,
    stops: request.stop,
    topLogProbs: request.topLogProbs,
    endTokens: new Set(request.ignoreEos ? [] : tokens.eos),
    tokenizer: worker.text.tokenizer,
    watch: (onEvent) => watchReply(worker, watched, onEvent),
  });
  const annotate = () => {
    const measures = job.measures();
    context.annotate({
      ...steeringFields(worn.persona, worn.gain),
      promptTokens: prompt.length,
      replyTokens: measures?.tokens ?? 0,
      entropy: measures?.entropy ?? null,
      repetition: measures?.repetition ?? null,
    });
  };
  const cancel = () => {
    // A call that is cut short is logged now: what it wore and wrote must be known by then.
    annotate();
    worker.engine.cancel(job.id);
  };
  let outcome: ReplyOutcome | undefined;
  try {
    // A signal that has fired already would never tell the listener.
    context.signal.throwIfAborted();
    worker.engine.submit(job);
    context.signal.addEventListener("abort", cancel, { once: true });
    for await (const event of job.events) {
      if (event.kind === "guard") {
        context.log.info({ ...steeringFields(worn.persona, worn.gain), ...guardFields(event.event) }, "guard");
      }
      if (event.kind === "finished") outcome = { kind: "finished", reason: event.reply.reason };
      if (event.kind === "finished" && event.text !== "")
        yield { event: { case: "tokens", value: { text: event.text } } };
      yield message(worker, job, event, { context, seed });
    }
  } catch (error) {
    outcome = failureOf(error, context.signal);
    throw error;
  } finally {
    context.signal.removeEventListener("abort", cancel);
    cancel();
    const operation = request.prompt?.input.case === "chat" ? "chat" : "text_completion";
    outcome ??= failureOf(undefined, context.signal);
    worker.telemetry.replied(servedReply(job, outcome, { operation, choice: 0, choices: 1 }), context);
  }
}

function message(
  worker: Worker,
  job: GenerateJob,
  event: GenerateEvent,
  { context, seed }: { context: CallContext; seed: bigint },
): Response {
  switch (event.kind) {
    case "started":
      return {
        event: {
          case: "started",
          value: {
            requestId: context.requestId,
            modelChecksum: worker.model.manifest.modelChecksum,
            graphDigest: worker.model.manifest.graphDigest,
            ...(event.persona === undefined ? {} : { persona: personaProof(event.persona, event.gain) }),
            promptTokens: job.tokens,
            seed,
          },
        },
      };
    case "token": {
      const { id, logProb, entropy, projections, alternatives } = event.token;
      const token = { id, logProb, entropy, projections: [...projections], topLogProbs: [...alternatives] };
      return { event: { case: "tokens", value: { text: event.text, tokens: [token] } } };
    }
    case "switched":
      return {
        event: {
          case: "personaSwitched",
          value: {
            ...(event.persona === undefined ? {} : { persona: personaProof(event.persona, event.gain) }),
            afterTokens: event.afterTokens,
            switchMicros: event.micros,
          },
        },
      };
    case "guard":
      return { event: { case: "guard", value: guardEvent(event.event) } };
    case "finished": {
      const { reply } = event;
      return {
        event: {
          case: "finished",
          value: {
            reason: FINISH_REASONS[reply.reason as Exclude<Finish, "prefilled">],
            promptTokens: job.tokens,
            completionTokens: reply.tokens,
            effectiveAlphaHundredths:
              job.worn.persona === undefined
                ? 0
                : personaProof(job.worn.persona, job.worn.gain).effectiveAlphaHundredths,
            meanEntropy: reply.measures?.entropy ?? 0,
            meanSurprisal: reply.measures?.surprisal ?? 0,
            repetition: reply.measures?.repetition ?? 0,
            queueMillis: reply.queueMillis,
            prefillMillis: reply.prefillMillis,
            decodeMillis: reply.decodeMillis,
            ...watchFields(reply.watch),
          },
        },
      };
    }
  }
}

/** Every wrong field at once. @throws ServiceError INVALID_ARGUMENT */
function samplingOf(request: GenerateRequest): SamplingParameters {
  const { sampling, maxTokens, stop, topLogProbs } = request;
  const parameters = {
    temperature: sampling?.temperature ?? 1,
    topK: sampling?.topK ?? 0,
    topP: sampling?.topP ?? 1,
    minP: sampling?.minP ?? 0,
  };
  const violations: FieldViolation[] = [
    ...samplingViolations(parameters),
    ...(maxTokens === 0 ? [{ field: "max_tokens", description: "must be at least 1" }] : []),
    ...(topLogProbs > MAX_TOP_LOG_PROBS
      ? [{ field: "top_log_probs", description: `${topLogProbs} is over ${MAX_TOP_LOG_PROBS}` }]
      : []),
    ...stopViolations(stop),
  ];
  if (violations.length > 0) throw ServiceError.invalid(violations);
  return parameters;
}

function samplingViolations({ temperature, topP, minP }: SamplingParameters): FieldViolation[] {
  const checks: [keyof Sampling & string, boolean, string][] = [
    [
      "temperature",
      temperature >= 0 && temperature <= MAX_TEMPERATURE,
      `${temperature} is not from 0 to ${MAX_TEMPERATURE}`,
    ],
    ["topP", topP > 0 && topP <= 1, `${topP} is not above 0 and at most 1`],
    ["minP", minP >= 0 && minP <= 1, `${minP} is not from 0 to 1`],
  ];
  const fields: Record<string, string> = { temperature: "temperature", topP: "top_p", minP: "min_p" };
  return checks
    .filter(([, ok]) => !ok)
    .map(([name, , description]) => ({ field: `sampling.${fields[name]}`, description }));
}

function stopViolations(stops: readonly string[]): FieldViolation[] {
  if (stops.length > MAX_STOPS)
    return [{ field: "stop", description: `${stops.length} strings, at most ${MAX_STOPS}` }];
  return stops.flatMap((stop, index) => {
    const characters = [...stop].length;
    const fits = characters >= 1 && characters <= MAX_STOP_CHARACTERS && stop.isWellFormed();
    return fits ? [] : [{ field: `stop[${index}]`, description: `must have 1 to ${MAX_STOP_CHARACTERS} characters` }];
  });
}
