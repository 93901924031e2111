import type { MessageInitShape } from "@bufbuild/protobuf";
import {
  type CoherenceSchema,
  type FinishedSchema,
  GuardCause,
  type GuardEventSchema,
  type GuardOptions,
} from "@persona-mesh/protocol";
import { type Caller, ServiceError } from "@persona-mesh/service";
import type { CoherenceScore, GuardEvent, GuardCause as SteeringCause } from "@persona-mesh/steering";
import type { WatchReport } from "../guard/reply-watch.ts";
import type { WatchRequest } from "../guard/watch-reply.ts";

const CAUSES: Record<SteeringCause, GuardCause> = {
  ENTROPY_LOW: GuardCause.ENTROPY_LOW,
  ENTROPY_HIGH: GuardCause.ENTROPY_HIGH,
  REPETITION: GuardCause.REPETITION,
  DIVERGENCE: GuardCause.DIVERGENCE,
};

/** What a call asks of the guard. @throws ServiceError PERMISSION_DENIED: a tenant's guard is the tenant's policy */
export function watchRequest(options: GuardOptions | undefined, caller: Caller): WatchRequest {
  const { observeOnly = false, twin, twinActs = false } = options ?? {};
  if (observeOnly && !caller.roles.has("service")) {
    throw new ServiceError("PERMISSION_DENIED", "guard.observe_only needs the role service");
  }
  // A divergence that is to act has to be measured.
  return { observeOnly, twin: twin ?? (twinActs ? true : undefined), twinActs };
}

/** An event for the caller. Without a baseline there is no ratio: 0. */
export function guardEvent(event: GuardEvent): MessageInitShape<typeof GuardEventSchema> {
  const { kl } = event;
  return {
    afterTokens: event.afterTokens,
    cause: CAUSES[event.cause],
    entropyRatio: event.entropyRatio ?? 0,
    repetition: event.repetition,
    ...(kl === undefined ? {} : { kl }),
    alphaBeforeHundredths: event.alphaBeforeHundredths,
    alphaAfterHundredths: event.alphaAfterHundredths,
  };
}

/** An event for the log: numbers, never text. */
export function guardFields(event: GuardEvent): Record<string, unknown> {
  const { cause, afterTokens, entropyRatio = null, repetition, kl = null } = event;
  return {
    cause,
    afterTokens,
    entropyRatio,
    repetition,
    kl,
    alphaBefore: event.alphaBeforeHundredths / 100,
    alphaAfter: event.alphaAfterHundredths / 100,
  };
}

/** What guard and twin found, for the end of a stream. */
export function watchFields({
  alphas,
  events,
  twin,
  coherence,
}: WatchReport): Pick<MessageInitShape<typeof FinishedSchema>, "alphas" | "guardEvents" | "twin" | "coherence"> {
  return {
    alphas: alphas.map(({ fromToken, alphaHundredths }) => ({ fromToken, alphaHundredths })),
    guardEvents: events.map(guardEvent),
    ...(twin === undefined ? {} : { twin: { ...twin } }),
    ...(coherence === undefined ? {} : { coherence: coherenceFields(coherence) }),
  };
}

function coherenceFields({ score, parts, entropyRatio }: CoherenceScore): MessageInitShape<typeof CoherenceSchema> {
  const { entropy = 0, surprise = 0, repetition = 0, divergence } = parts;
  return { score, entropy, surprise, repetition, entropyRatio, ...(divergence === undefined ? {} : { divergence }) };
}
