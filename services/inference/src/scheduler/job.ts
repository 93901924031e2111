/** What the scheduler knows of a request. Callers extend it with what the engine needs. */
export interface Job {
  /** Unique among the jobs that wait or run. */
  readonly id: string;
  /** Whose it is: shares and limits are by tenant. */
  readonly tenant: string;
  /**
   * - `generate`: prefill, then one token per decode step until it finishes
   * - `prefill`: ends after its last chunk (scores, captures, twins)
   */
  readonly kind: "generate" | "prefill";
  /** Tokens to prefill: 1 to the context. Of a follower, the most that may come. */
  readonly tokens: number;
  /**
   * Where the prompt ends: tokens from here on are prefilled as if they had been generated, in chunks of their own, so
   * that a persona acts on them as it does on a reply (scores of continuations). 0 to `tokens`. @default tokens
   */
  readonly promptTokens?: number;
  /** Most tokens that a reply may have: what is charged to the tenant until it is known how many it has. @default 0 */
  readonly replyTokens?: number;
  /** Set for a job that others do not wait for; see {@link Follower}. */
  readonly follower?: Follower;
}

/**
 * A `prefill` job whose tokens become known while another job writes them, as an unsteered twin's do.
 *
 * It is charged to nobody and stands in no queue: it takes a slot that no waiting job wants at the next plan, or none. Its
 * chunks run when no other prompt has one, and it ends as displaced when a waiting job wants its slot.
 *
 * Both members are read before every step. Nothing wakes the engine for them: the job that is followed does.
 */
export interface Follower {
  /** Tokens known so far: never fewer than before, at most `tokens`. */
  readonly available: number;
  /** No more will come: it ends once those are prefilled. */
  readonly closed: boolean;
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
  | { readonly kind: "failed"; readonly error: unknown }
  /** A follower only: no slot was free for it, or a waiting job took its slot. */
  | { readonly kind: "displaced" }
  /** The worker stops: another one can take it from the start. */
  | { readonly kind: "drained" };

/** Handed out exactly once per job. `slot` is the one it was in, unless it waited. */
export interface Ended<J extends Job> {
  readonly job: J;
  readonly ending: Ending;
  readonly slot?: number;
}
