import { toServiceError } from "@persona-mesh/service";
import { effectiveAlpha } from "@persona-mesh/steering";
import type { GenerateJob } from "../jobs/generate-job.ts";
import type { ReplyOutcome, ServedReply } from "../telemetry/served-reply.ts";
import { ERROR_MAPPERS } from "./error-mapping.ts";

/** What telemetry is told of a job whose reply is over, or whose caller has gone. */
export function servedReply(
  job: GenerateJob,
  outcome: ReplyOutcome,
  call: Pick<ServedReply, "operation" | "choice" | "choices">,
): ServedReply {
  const { persona, gain } = job.worn;
  return {
    ...call,
    outcome,
    times: job.times(),
    promptTokens: job.tokens,
    cachedTokens: job.cachedTokens,
    replyTokens: job.reply.length,
    persona: persona && {
      revision: persona.revision,
      versionDigests: persona.versionDigests,
      effectiveAlphaHundredths: effectiveAlpha([persona.largestAlphaHundredths], gain),
    },
    watched: job.watched(),
  };
}

/** What telemetry is told of a reply that was refused before anything was done for it. */
export function refusedReply(
  outcome: ReplyOutcome,
  call: Pick<ServedReply, "operation" | "choice" | "choices">,
): ServedReply {
  const now = performance.now();
  return {
    ...call,
    outcome,
    times: { queued: now, ended: now, preemptedMillis: 0 },
    promptTokens: 0,
    cachedTokens: 0,
    replyTokens: 0,
    persona: undefined,
    watched: { events: [], coherence: undefined, twin: undefined },
  };
}

/** How a reply ended that has not finished: `error` is what it failed with, undefined where its caller left. */
export function failureOf(error: unknown, signal: AbortSignal): ReplyOutcome {
  // A job that was cancelled for its caller says so; the signal says why.
  const cause = signal.aborted ? signal.reason : error;
  return { kind: "failed", reason: cause === undefined ? "CANCELLED" : toServiceError(cause, ERROR_MAPPERS).reason };
}
