/** What the scheduler knows of a request. Callers extend it with what the engine needs. */
export interface Job {
  /** Unique among the jobs that wait or run. */
  readonly id: string;
  /** Whose it is: shares and limits are by tenant. */
  readonly tenant: string;
  /**
   * - `generate`: prefill, then one token per decode step until it finishes
   * - `prefill`: ends after its last chunk (scores, captures)
   */
  readonly kind: "generate" | "prefill";
  /** Tokens to prefill: 1 to the context. */
  readonly tokens: number;
  /**
   * Where the prompt ends: tokens from here on are prefilled as if they had been generated, in chunks of their own, so
   * that a persona acts on them as it does on a reply (scores of continuations). 0 to `tokens`. @default tokens
   */
  readonly promptTokens?: number;
  /** When to give up, in the clock of {@link Scheduler.expire}. @default never */
  readonly deadline?: number;
}

/** Why a job ended well. The scheduler itself says `prefilled`, and `context` where the job did not. */
export type FinishReason =
  /** The model's end token. */
  | "end"
  /** A stop string. */
  | "stop"
  /** As many tokens as the caller asked for. */
  | "maxTokens"
  /** Prompt and reply fill the context: no position is left for another token. */
  | "context"
  /** The last chunk of a `prefill` job. */
  | "prefilled";

export type Ending =
  | { readonly kind: "finished"; readonly reason: FinishReason }
  | { readonly kind: "cancelled" }
  /** Its deadline passed, in the queue or while running. */
  | { readonly kind: "expired" }
  | { readonly kind: "failed"; readonly error: unknown }
  /** The worker stops: another one can take it from the start. */
  | { readonly kind: "drained" };

/** Handed out exactly once per job. `slot` is the one it ran in, unless it never ran. */
export interface Ended<J extends Job> {
  readonly job: J;
  readonly ending: Ending;
  readonly slot?: number;
}
