import type { MessageInitShape } from "@bufbuild/protobuf";
import { GuardCachePolicy, type GuardPolicy, type GuardPolicySchema } from "@persona-mesh/protocol/registry";
import { DEFAULT_GUARD_POLICY, GUARD_POLICY_BOUNDS } from "@persona-mesh/steering";
import type { Selectable, Updateable } from "kysely";
import type { TenantsTable } from "../database/schema.ts";
import { type Wrong, whole, word } from "./field-values.ts";

type Row = Pick<Selectable<TenantsTable>, Extract<keyof TenantsTable, `guard_${string}`>>;

/** Paths of a tenant's guard policy that can be written. */
export const GUARD_PATHS = [
  "policy.guard.observe_only",
  "policy.guard.window_tokens",
  "policy.guard.band_hundredths",
  "policy.guard.step_hundredths",
  "policy.guard.repetition_hundredths",
  "policy.guard.cache",
  "policy.guard.twin_share_basis_points",
  "policy.guard.refill_tokens",
] as const;

type GuardPath = (typeof GUARD_PATHS)[number];

/** Paths that are set. */
export function presentInGuard(guard: GuardPolicy | undefined): GuardPath[] {
  if (guard === undefined) return [];
  const isSet: Readonly<Record<GuardPath, boolean>> = {
    "policy.guard.observe_only": guard.observeOnly,
    "policy.guard.window_tokens": guard.windowTokens !== 0,
    "policy.guard.band_hundredths": guard.bandHundredths !== 0,
    "policy.guard.step_hundredths": guard.stepHundredths !== 0,
    "policy.guard.repetition_hundredths": guard.repetitionHundredths !== 0,
    "policy.guard.cache": guard.cache !== GuardCachePolicy.UNSPECIFIED,
    "policy.guard.twin_share_basis_points": guard.twinShareBasisPoints !== undefined,
    "policy.guard.refill_tokens": guard.refillTokens !== 0,
  };
  return GUARD_PATHS.filter((path) => isSet[path]);
}

/** The column behind a path; an unset field gives the default. */
export function guardColumn(guard: GuardPolicy | undefined, path: GuardPath, wrong: Wrong): Updateable<TenantsTable> {
  const field = `tenant.${path}`;
  const number = (key: keyof typeof GUARD_POLICY_BOUNDS): number => {
    const given = guard?.[key];
    // Nothing of the twins is a share; of the others 0 is what counts as unset.
    const isUnset = given === undefined || (given === 0 && key !== "twinShareBasisPoints");
    return isUnset ? DEFAULT_GUARD_POLICY[key] : whole(given, GUARD_POLICY_BOUNDS[key], field, wrong);
  };
  switch (path) {
    case "policy.guard.observe_only":
      return { guard_observe_only: guard?.observeOnly ?? DEFAULT_GUARD_POLICY.observeOnly };
    case "policy.guard.window_tokens":
      return { guard_window_tokens: number("windowTokens") };
    case "policy.guard.band_hundredths":
      return { guard_band_hundredths: number("bandHundredths") };
    case "policy.guard.step_hundredths":
      return { guard_step_hundredths: number("stepHundredths") };
    case "policy.guard.repetition_hundredths":
      return { guard_repetition_hundredths: number("repetitionHundredths") };
    case "policy.guard.cache":
      return { guard_cache: cacheOf(guard?.cache ?? GuardCachePolicy.UNSPECIFIED, field, wrong) };
    case "policy.guard.twin_share_basis_points":
      return { guard_twin_share_basis_points: number("twinShareBasisPoints") };
    case "policy.guard.refill_tokens":
      return { guard_refill_tokens: number("refillTokens") };
  }
}

function cacheOf(cache: GuardCachePolicy, field: string, wrong: Wrong): "KEEP" | "REPREFILL" {
  word(cache, { known: GuardCachePolicy, what: "policy" }, field, wrong);
  return cache === GuardCachePolicy.REPREFILL ? "REPREFILL" : "KEEP";
}

/** The guard policy as callers and workers see it: whole. */
export function guardMessage(row: Row): MessageInitShape<typeof GuardPolicySchema> {
  return {
    observeOnly: row.guard_observe_only,
    windowTokens: row.guard_window_tokens,
    bandHundredths: row.guard_band_hundredths,
    stepHundredths: row.guard_step_hundredths,
    repetitionHundredths: row.guard_repetition_hundredths,
    cache: row.guard_cache === "REPREFILL" ? GuardCachePolicy.REPREFILL : GuardCachePolicy.KEEP,
    twinShareBasisPoints: row.guard_twin_share_basis_points,
    refillTokens: row.guard_refill_tokens,
  };
}

/** The guard policy as the audit says it. */
export function auditedGuard(row: Row) {
  return {
    observeOnly: row.guard_observe_only,
    windowTokens: row.guard_window_tokens,
    bandHundredths: row.guard_band_hundredths,
    stepHundredths: row.guard_step_hundredths,
    repetitionHundredths: row.guard_repetition_hundredths,
    cache: row.guard_cache,
    twinShareBasisPoints: row.guard_twin_share_basis_points,
    refillTokens: row.guard_refill_tokens,
  };
}
