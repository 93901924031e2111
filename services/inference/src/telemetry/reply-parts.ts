import type { CallPart } from "@persona-mesh/service";
import { GEN_AI } from "./gen-ai.ts";
import { outcomeWord, type ServedReply } from "./served-reply.ts";

/**
 * What a reply went through, as parts of its call: `queue`, `prefill`, `decode`, each from where the one before ended. One that
 * did not get to the next ends with the reply, failed where the reply is.
 */
export function replyParts(reply: ServedReply): CallPart[] {
  const { times, outcome } = reply;
  const { queued, started, firstToken, ended } = times;
  const failed = outcome.kind === "failed";
  const how = failed ? { "error.type": outcome.reason } : {};
  const common = reply.choices > 1 ? { "persona.choice": reply.choice } : {};
  const prompt = {
    [GEN_AI.inputTokens]: reply.promptTokens,
    [GEN_AI.cachedTokens]: reply.cachedTokens,
    // Of both parts together.
    ...(times.preemptedMillis > 0 && { "persona.preempted_millis": times.preemptedMillis }),
  };
  const part = (name: string, start: number, end: number | undefined, attributes: CallPart["attributes"]): CallPart =>
    end === undefined
      ? { name, start, end: Math.max(start, ended), attributes: { ...common, ...attributes, ...how }, failed }
      : { name, start, end, attributes: { ...common, ...attributes } };
  const parts = [part("queue", queued, started, {})];
  if (started !== undefined) parts.push(part("prefill", started, firstToken, { ...prompt, ...personaOf(reply) }));
  if (firstToken !== undefined) {
    const decode = part("decode", firstToken, undefined, {
      ...prompt,
      ...personaOf(reply),
      [GEN_AI.operation]: reply.operation,
      [GEN_AI.outputTokens]: reply.replyTokens,
      [GEN_AI.finishReasons]: [outcomeWord(outcome)],
      ...watchedFigures(reply),
    });
    parts.push({ ...decode, events: guardEvents(reply) });
  }
  return parts;
}

function personaOf({ persona }: ServedReply) {
  if (persona === undefined) return {};
  return {
    "persona.revision": persona.revision,
    "persona.alpha": persona.effectiveAlphaHundredths / 100,
  };
}

function watchedFigures({ watched: { coherence, twin } }: ServedReply) {
  return {
    ...(coherence !== undefined && { "persona.coherence": coherence.score }),
    ...(twin !== undefined && { "persona.twin.kl": twin.meanKl, "persona.twin.tokens": twin.tokens }),
  };
}

function guardEvents({ watched }: ServedReply): NonNullable<CallPart["events"]> {
  return watched.events.map((event) => ({
    name: "guard",
    at: event.at,
    attributes: {
      "persona.guard.cause": event.cause.toLowerCase(),
      "persona.guard.after_tokens": event.afterTokens,
      "persona.alpha.before": event.alphaBeforeHundredths / 100,
      "persona.alpha.after": event.alphaAfterHundredths / 100,
    },
  }));
}
