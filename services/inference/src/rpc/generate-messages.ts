import type { MessageInitShape } from "@bufbuild/protobuf";
import { FinishReason, type GenerateResponseSchema } from "@persona-mesh/protocol";
import type { GenerateEvent, GenerateJob } from "../jobs/generate-job.ts";
import type { PromptToken } from "../jobs/prompt-log-probs-job.ts";
import type { FinishReason as Finish } from "../scheduler/index.ts";
import type { Worker } from "../worker.ts";
import { guardEvent, watchFields } from "./guard-messages.ts";
import { personaProof } from "./persona-proof.ts";

type Response = MessageInitShape<typeof GenerateResponseSchema>;
type ResponseEvent = NonNullable<Response["event"]>;

const FINISH_REASONS: Record<Exclude<Finish, "prefilled">, FinishReason> = {
  end: FinishReason.END,
  stop: FinishReason.STOP,
  maxTokens: FinishReason.MAX_TOKENS,
  context: FinishReason.CONTEXT,
};

/** With all alternatives a token takes some 240 bytes: a quarter of what a message may have. */
const PROMPT_TOKENS_PER_MESSAGE = 4096;

/** What every reply of a call begins with. */
export interface CallFacts {
  readonly requestId: string;
  readonly seed: bigint;
}

/** An event of a reply for the caller. Text that stop strings had held back comes before the end. */
export function responseEvents(
  worker: Worker,
  job: GenerateJob,
  event: GenerateEvent,
  facts: CallFacts,
): ResponseEvent[] {
  switch (event.kind) {
    case "started":
      return [{ case: "started", value: started(worker, job, event, facts) }];
    case "token": {
      const { id, logProb, entropy, projections, alternatives } = event.token;
      const token = { id, logProb, entropy, projections: [...projections], topLogProbs: [...alternatives] };
      return [{ case: "tokens", value: { text: event.text, tokens: [token] } }];
    }
    case "switched": {
      const { persona, gain, afterTokens, micros: switchMicros } = event;
      const proof = persona === undefined ? {} : { persona: personaProof(persona, gain) };
      return [{ case: "personaSwitched", value: { ...proof, afterTokens, switchMicros } }];
    }
    case "guard":
      return [{ case: "guard", value: guardEvent(event.event) }];
    case "finished": {
      const value = finished(job, event);
      const last: ResponseEvent = { case: "finished", value };
      return event.text === "" ? [last] : [{ case: "tokens", value: { text: event.text } }, last];
    }
  }
}

/** In pieces that fit a message each. One, without tokens, for a prompt of one token. */
export function* promptLogProbs(tokens: readonly PromptToken[]): Generator<ResponseEvent> {
  let from = 0;
  do {
    const piece = tokens.slice(from, from + PROMPT_TOKENS_PER_MESSAGE);
    const told = piece.map(({ alternatives, ...token }) => ({ ...token, topLogProbs: [...alternatives] }));
    yield { case: "promptLogProbs", value: { tokens: told } };
    from += PROMPT_TOKENS_PER_MESSAGE;
  } while (from < tokens.length);
}

function started(
  { model }: Worker,
  job: GenerateJob,
  { persona, gain }: Extract<GenerateEvent, { kind: "started" }>,
  { requestId, seed }: CallFacts,
) {
  const { modelChecksum, graphDigest } = model.manifest;
  return {
    requestId,
    modelChecksum,
    graphDigest,
    ...(persona === undefined ? {} : { persona: personaProof(persona, gain) }),
    promptTokens: job.tokens,
    seed,
  };
}

function finished(job: GenerateJob, { reply }: Extract<GenerateEvent, { kind: "finished" }>) {
  const { persona, gain } = job.worn;
  return {
    reason: FINISH_REASONS[reply.reason as Exclude<Finish, "prefilled">],
    promptTokens: job.tokens,
    cachedPromptTokens: job.cachedTokens,
    completionTokens: reply.tokens,
    effectiveAlphaHundredths: persona === undefined ? 0 : personaProof(persona, gain).effectiveAlphaHundredths,
    meanEntropy: reply.measures?.entropy ?? 0,
    meanSurprisal: reply.measures?.surprisal ?? 0,
    repetition: reply.measures?.repetition ?? 0,
    queueMillis: reply.queueMillis,
    prefillMillis: reply.prefillMillis,
    decodeMillis: reply.decodeMillis,
    preemptedMillis: reply.preemptedMillis,
    ...watchFields(reply.watch),
  };
}
