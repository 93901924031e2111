import type { Reason } from "@persona-mesh/service";
import type { WatchReport } from "../guard/reply-watch.ts";
import type { ReplyTimes } from "../jobs/reply-clock.ts";
import type { FinishReason } from "../scheduler/index.ts";

/** What a reply wore last. */
export interface SeenPersona {
  readonly revision: string;
  /** sha256 in hexadecimal of every vector version, in the order of the terms. */
  readonly versionDigests: readonly string[];
  readonly effectiveAlphaHundredths: number;
}

/** All that telemetry knows of one reply, told when it is over. No text, no tokens, no names. */
export interface ServedReply {
  readonly operation: "chat" | "text_completion";
  /** Which of the call's replies, and of how many. */
  readonly choice: number;
  readonly choices: number;
  readonly promptTokens: number;
  /** Of the prompt's tokens, those that were there already. */
  readonly cachedTokens: number;
  readonly replyTokens: number;
  readonly outcome: ReplyOutcome;
  readonly times: ReplyTimes;
  readonly persona: SeenPersona | undefined;
  /** What guard and twin found. */
  readonly watched: Pick<WatchReport, "events" | "coherence" | "twin">;
}

export type ReplyOutcome =
  | { readonly kind: "finished"; readonly reason: FinishReason }
  /** Refused before it got into the queue, cancelled, or lost. */
  | { readonly kind: "failed"; readonly reason: Reason };

/** One word for how it ended: `end`, `stop`, `max_tokens`, `context`, or a reason such as `CANCELLED`. */
export function outcomeWord(outcome: ReplyOutcome): string {
  if (outcome.kind === "failed") return outcome.reason;
  return outcome.reason === "maxTokens" ? "max_tokens" : outcome.reason;
}
