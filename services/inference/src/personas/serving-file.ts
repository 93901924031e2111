import { DEFAULT_GUARD_POLICY, GUARD_POLICY_BOUNDS, type GuardPolicy } from "@persona-mesh/steering";
import { z } from "zod";
import { DEFAULT_SERVING, MAX_WEIGHT, type ServingPolicy } from "./serving-policy.ts";

const { windowTokens, bandHundredths, stepHundredths, repetitionHundredths, twinShareBasisPoints, refillTokens } =
  GUARD_POLICY_BOUNDS;

const whole = (bounds: readonly [number, number]) => z.int().min(bounds[0]).max(bounds[1]);

/** A share as people write it, 0.15, held as the whole number of its smallest steps, 15. */
const share = (bounds: readonly [number, number], steps: number) =>
  z
    .number()
    .min(bounds[0] / steps)
    .max(bounds[1] / steps)
    .refine((value) => Math.abs(value * steps - Math.round(value * steps)) < 1e-6, `must be in steps of ${1 / steps}`)
    .transform((value) => Math.round(value * steps));

const limit = z.int().min(1);

/** `guard` of a tenant's `personas.json`; what is left out is the default. */
export const guardOfFile = z
  .strictObject({
    observeOnly: z.boolean(),
    windowTokens: whole(windowTokens),
    /** Half-width of the band, as a share of the baseline's entropy. */
    band: share(bandHundredths, 100),
    /** Of effective alpha. */
    step: share(stepHundredths, 100),
    repetition: share(repetitionHundredths, 100),
    cache: z.enum(["KEEP", "REPREFILL"]),
    twinShare: share(twinShareBasisPoints, 10_000),
    /** 0 for never. */
    refillTokens: whole([0, refillTokens[1]]).refine(
      (tokens) => tokens === 0 || tokens >= refillTokens[0],
      `must be 0 or at least ${refillTokens[0]}`,
    ),
  })
  .partial()
  .default({})
  .transform(
    (guard): GuardPolicy => ({
      observeOnly: guard.observeOnly ?? DEFAULT_GUARD_POLICY.observeOnly,
      windowTokens: guard.windowTokens ?? DEFAULT_GUARD_POLICY.windowTokens,
      bandHundredths: guard.band ?? DEFAULT_GUARD_POLICY.bandHundredths,
      stepHundredths: guard.step ?? DEFAULT_GUARD_POLICY.stepHundredths,
      repetitionHundredths: guard.repetition ?? DEFAULT_GUARD_POLICY.repetitionHundredths,
      cache: guard.cache ?? DEFAULT_GUARD_POLICY.cache,
      twinShareBasisPoints: guard.twinShare ?? DEFAULT_GUARD_POLICY.twinShareBasisPoints,
      refillTokens: guard.refillTokens ?? DEFAULT_GUARD_POLICY.refillTokens,
    }),
  );

/** `serving` of a tenant's `personas.json`; what is left out is the default. */
export const servingOfFile = z
  .strictObject({
    weight: whole([1, MAX_WEIGHT]),
    maxRunning: limit,
    maxWaiting: limit,
    tokensPerMinute: limit,
  })
  .partial()
  .default({})
  .transform(
    (serving): Omit<ServingPolicy, "guard"> => ({
      weight: serving.weight ?? DEFAULT_SERVING.weight,
      maxRunning: serving.maxRunning ?? DEFAULT_SERVING.maxRunning,
      maxWaiting: serving.maxWaiting ?? DEFAULT_SERVING.maxWaiting,
      tokensPerMinute: serving.tokensPerMinute ?? DEFAULT_SERVING.tokensPerMinute,
    }),
  );
