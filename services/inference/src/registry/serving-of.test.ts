import { create } from "@bufbuild/protobuf";
import { GuardCachePolicy, TenantStateSchema } from "@persona-mesh/protocol/registry";
import { expect, test } from "vitest";
import { DEFAULT_SERVING } from "../personas/serving-policy.ts";
import { servingOf } from "./serving-of.ts";

const state = (init: Parameters<typeof create<typeof TenantStateSchema>>[1]) => create(TenantStateSchema, init);

test("a registry that says nothing of it, or has fields of which it says nothing, leaves the defaults", () => {
  expect(servingOf(state({}))).toEqual(DEFAULT_SERVING);
  expect(servingOf(state({ guard: {}, serving: {} }))).toEqual(DEFAULT_SERVING);
});

test("what it says is taken over; no limit stays no limit, and no twins no twins", () => {
  const guard = {
    observeOnly: true,
    windowTokens: 64,
    bandHundredths: 20,
    stepHundredths: 5,
    repetitionHundredths: 60,
    twinShareBasisPoints: 0,
    refillTokens: 512,
  };
  const serving = { weight: 7, maxRunning: 3, maxWaiting: 0, tokensPerMinute: 600 };
  const cache = GuardCachePolicy.REPREFILL;
  expect(servingOf(state({ guard: { ...guard, cache }, serving }))).toEqual({
    ...serving,
    maxWaiting: Number.POSITIVE_INFINITY,
    guard: { ...guard, cache: "REPREFILL" },
  });
});

test("what is out of bounds is the bound, and a word that is not known the default", () => {
  const most = 2 ** 32 - 1;
  const over = { windowTokens: most, bandHundredths: most, stepHundredths: most, repetitionHundredths: most };
  const cache = 9 as GuardCachePolicy;
  expect(
    servingOf(
      state({ guard: { ...over, twinShareBasisPoints: most, refillTokens: most, cache }, serving: { weight: most } }),
    ),
  ).toMatchObject({
    weight: 1000,
    guard: {
      windowTokens: 256,
      bandHundredths: 100,
      stepHundredths: 80,
      repetitionHundredths: 100,
      twinShareBasisPoints: 10_000,
      refillTokens: 4096,
      cache: "KEEP",
    },
  });
  const under = { windowTokens: 1, bandHundredths: 1, repetitionHundredths: 1, refillTokens: 1 };
  expect(servingOf(state({ guard: under })).guard).toMatchObject({
    windowTokens: 8,
    bandHundredths: 5,
    repetitionHundredths: 30,
    refillTokens: 16,
  });
});
