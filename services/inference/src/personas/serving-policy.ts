import { DEFAULT_GUARD_POLICY, type GuardPolicy } from "@persona-mesh/steering";

/** What a tenant may take of one worker, and how its replies are guarded. */
export interface ServingPolicy {
  /** Share of a busy worker's tokens relative to other tenants', 1 to {@link MAX_WEIGHT}. */
  readonly weight: number;
  /** Replies that run at once; infinite for as many as there are slots. */
  readonly maxRunning: number;
  /** Replies that wait; infinite for as many as the worker's whole queue takes. */
  readonly maxWaiting: number;
  /** Tokens of prompts and replies together; infinite for no limit. */
  readonly tokensPerMinute: number;
  readonly guard: GuardPolicy;
}

/** By contract. */
export const MAX_WEIGHT = 1000;

/** Of tenants of which nothing else is said. */
export const DEFAULT_SERVING: ServingPolicy = {
  weight: 100,
  maxRunning: Number.POSITIVE_INFINITY,
  maxWaiting: Number.POSITIVE_INFINITY,
  tokensPerMinute: Number.POSITIVE_INFINITY,
  guard: DEFAULT_GUARD_POLICY,
};
