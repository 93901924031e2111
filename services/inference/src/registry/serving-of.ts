import { GuardCachePolicy, type GuardPolicy, type TenantState } from "@persona-mesh/protocol/registry";
import { DEFAULT_GUARD_POLICY, GUARD_POLICY_BOUNDS } from "@persona-mesh/steering";
import { DEFAULT_SERVING, MAX_WEIGHT, type ServingPolicy } from "../personas/serving-policy.ts";

/**
 * What a tenant may take of this worker, and how its replies are guarded. The registry may be older than this worker, or
 * newer: what it does not say is the default, and what it says out of bounds is the bound.
 */
export function servingOf({ guard, serving }: Pick<TenantState, "guard" | "serving">): ServingPolicy {
  return {
    weight: Math.min(serving?.weight || DEFAULT_SERVING.weight, MAX_WEIGHT),
    maxRunning: serving?.maxRunning || DEFAULT_SERVING.maxRunning,
    maxWaiting: serving?.maxWaiting || DEFAULT_SERVING.maxWaiting,
    tokensPerMinute: serving?.tokensPerMinute || DEFAULT_SERVING.tokensPerMinute,
    guard: guard === undefined ? DEFAULT_GUARD_POLICY : guardOf(guard),
  };
}

function guardOf(guard: GuardPolicy): ServingPolicy["guard"] {
  return {
    observeOnly: guard.observeOnly,
    windowTokens: bounded("windowTokens", guard.windowTokens || undefined),
    bandHundredths: bounded("bandHundredths", guard.bandHundredths || undefined),
    stepHundredths: bounded("stepHundredths", guard.stepHundredths || undefined),
    repetitionHundredths: bounded("repetitionHundredths", guard.repetitionHundredths || undefined),
    cache: guard.cache === GuardCachePolicy.REPREFILL ? "REPREFILL" : "KEEP",
    // No twins is a share like others.
    twinShareBasisPoints: bounded("twinShareBasisPoints", guard.twinShareBasisPoints),
    refillTokens: bounded("refillTokens", guard.refillTokens || undefined),
  };
}

function bounded(field: keyof typeof GUARD_POLICY_BOUNDS, given: number | undefined): number {
  if (given === undefined) return DEFAULT_GUARD_POLICY[field];
  const [least, most] = GUARD_POLICY_BOUNDS[field];
  return Math.max(least, Math.min(given, most));
}
