import type { Metrics } from "@persona-mesh/service";
import { GEN_AI, PROVIDER_NAME } from "./gen-ai.ts";
import { RecentVersions } from "./recent-versions.ts";
import { outcomeWord, type ServedReply } from "./served-reply.ts";

/** Buckets of the conventions, from 1 ms: small models on fast machines are below theirs. Seconds. */
const FIRST_TOKEN_BUCKETS = [
  0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 30, 60,
];
const PER_TOKEN_BUCKETS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5];
const DURATION_BUCKETS = [
  0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92, 163.84, 327.68,
];
const TOKEN_BUCKETS = [1, 4, 16, 64, 256, 1024, 4096, 16_384, 65_536, 262_144, 1_048_576];

/** A persona at everyday alphas is at a few tenths. Nats. */
const KL_BUCKETS = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];

/**
 * Counts and times replies. Everything is recorded when a reply is over, from what it noted on its way, so that a step costs
 * nothing more; about 20 µs a reply.
 *
 * No label names a tenant or a persona: whoever reaches the port reads them, and there is no bound to how many there are.
 */
export class ReplyMetrics {
  readonly #record: (reply: ServedReply) => void;

  /** @param model - names what is served, for dashboards of several workers */
  constructor({ meter, addSeries }: Metrics, model: string) {
    const served = { [GEN_AI.provider]: PROVIDER_NAME, [GEN_AI.model]: model };
    const seconds = (name: string, description: string, explicitBucketBoundaries: number[]) =>
      meter.createHistogram(name, { description, unit: "s", advice: { explicitBucketBoundaries } });
    const duration = seconds(
      "gen_ai.server.request.duration",
      "From the queue to the end of a reply; error_type where it failed",
      DURATION_BUCKETS,
    );
    const firstToken = seconds(
      "gen_ai.server.time_to_first_token",
      "From the queue to the first token of a reply",
      FIRST_TOKEN_BUCKETS,
    );
    const perToken = seconds(
      "gen_ai.server.time_per_output_token",
      "Mean time between the tokens of a reply, after the first",
      PER_TOKEN_BUCKETS,
    );
    const queue = seconds("persona.inference.queue.duration", "Time in the queue", FIRST_TOKEN_BUCKETS);
    const prefill = seconds(
      "persona.inference.prefill.duration",
      "From the first step of a reply to its first token",
      FIRST_TOKEN_BUCKETS,
    );
    const decode = seconds("persona.inference.decode.duration", "From the first token to the last", DURATION_BUCKETS);
    const usage = meter.createHistogram("gen_ai.client.token.usage", {
      description: "Tokens of a reply (output) and of its prompt (input)",
      unit: "{token}",
      advice: { explicitBucketBoundaries: TOKEN_BUCKETS },
    });
    const replies = meter.createCounter("persona.inference.replies", {
      description: "Replies by how they ended: a finish reason, or the reason of the error",
      unit: "{reply}",
    });
    const guard = meter.createCounter("persona.inference.guard.events", {
      description: "Windows out of bounds, by cause and whether alpha was lowered",
      unit: "{event}",
    });
    const divergence = meter.createHistogram("persona.inference.twin.kl", {
      description: "Mean KL of a reply to its unsteered twin, nats",
      unit: "nat",
      advice: { explicitBucketBoundaries: KL_BUCKETS },
    });
    const versions = new RecentVersions();
    addSeries({
      name: "persona.inference.coherence",
      description:
        "Coherence score of replies by vector version, mean of about the last 50; the 64 versions that spoke last",
      kind: "gauge",
      read: () => versions.means(),
    });
    addSeries({
      name: "persona.inference.coherence.replies",
      description: "Replies behind it",
      kind: "counter",
      read: () => versions.replies(),
    });

    this.#record = (reply) => {
      const { outcome, times, promptTokens, replyTokens, persona, watched } = reply;
      replies.add(1, { outcome: outcomeWord(outcome) });
      const attributes = { ...served, [GEN_AI.operation]: reply.operation };
      duration.record(secondsBetween(times.queued, times.ended), {
        ...attributes,
        ...(outcome.kind === "failed" && { "error.type": outcome.reason }),
      });
      if (times.started !== undefined) {
        queue.record(secondsBetween(times.queued, times.started));
        usage.record(promptTokens, { ...attributes, [GEN_AI.tokenType]: "input" });
      }
      for (const { cause, alphaBeforeHundredths, alphaAfterHundredths } of watched.events) {
        const acted = alphaAfterHundredths !== alphaBeforeHundredths;
        guard.add(1, { cause: cause.toLowerCase(), acted });
      }
      if (times.started === undefined || times.firstToken === undefined) return;
      prefill.record(secondsBetween(times.started, times.firstToken));
      const decoding = secondsBetween(times.firstToken, times.ended);
      decode.record(decoding);
      usage.record(replyTokens, { ...attributes, [GEN_AI.tokenType]: "output" });
      // The rest is what the conventions say of successful replies.
      if (outcome.kind === "failed") return;
      firstToken.record(secondsBetween(times.queued, times.firstToken), attributes);
      if (replyTokens > 1) perToken.record(decoding / (replyTokens - 1), attributes);
      if (watched.twin !== undefined) divergence.record(watched.twin.meanKl);
      if (persona !== undefined && watched.coherence !== undefined) {
        versions.add(persona.versionDigests, watched.coherence.score);
      }
    };
  }

  record(reply: ServedReply): void {
    this.#record(reply);
  }
}

function secondsBetween(start: number, end: number): number {
  return Math.max(0, end - start) / 1000;
}
