import { totalmem } from "node:os";
import type { DecoderSpec } from "@persona-mesh/model";
import { expect, test } from "vitest";
import {
  availableMemory,
  planMemory,
  prefixBytesOf,
  requireMemory,
  servedContext,
  swapBytesOf,
} from "./memory-plan.ts";

/** The sizes of an 8B Llama: 128 KiB of keys and values per token and side. */
const SPEC = {
  layers: 32,
  hidden: 4096,
  kvHeads: 8,
  headDim: 128,
  contextTokens: 131_072,
  ropes: [{ theta: 500_000, rotaryDim: 128, scaling: { kind: "none" } }],
} as unknown as DecoderSpec;

const WEIGHTS = 8.5e9;
const OPTIONS = { slots: 16, tableRows: 1024, contextTokens: 8192, prefixBytes: 0, swapBytes: 0 };

test("the context is the model's up to a bound, or what was asked for up to the model's", () => {
  expect(servedContext({ contextTokens: 1024 }, undefined)).toBe(1024);
  expect(servedContext(SPEC, undefined)).toBe(8192);
  expect(servedContext(SPEC, 131_072)).toBe(131_072);
  expect(servedContext({ contextTokens: 1024 }, 7)).toBe(7);
  expect(() => servedContext({ contextTokens: 1024 }, 1025)).toThrow(
    expect.objectContaining({ reason: "CONFIG_INVALID", message: "context: 1025 tokens, the model has 1024" }),
  );
});

test("the plan counts keys and values of every slot, the table, the rotary tables and the weights", () => {
  const plan = planMemory(SPEC, WEIGHTS, OPTIONS);
  expect(plan.cacheBytes).toBe(16 * 8192 * 2 * 32 * 8 * 128 * 4);
  expect(plan.tableBytes).toBe(1024 * 4096 * 4);
  expect(plan.totalBytes - plan.cacheBytes - plan.tableBytes - WEIGHTS).toBe(8192 * 128 * 4 + 300e6);
});

test("what does not fit is refused with what would, and what is advised fits", () => {
  const available = 32e9;
  const plan = planMemory(SPEC, WEIGHTS, OPTIONS);
  const refusal = () => requireMemory(SPEC, plan, OPTIONS, available);
  expect(refusal).toThrow(/16 slots of 8192 tokens take 34\.4 GB of KV cache/);
  let advice: number[] = [];
  try {
    refusal();
  } catch (error) {
    expect(error).toMatchObject({ reason: "CONFIG_INVALID" });
    const [, context, slots] = /What fits: context (\d+) or slots (\d+)\.$/.exec((error as Error).message) ?? [];
    advice = [Number(context), Number(slots)];
  }
  const [context = 0, slots = 0] = advice;
  const check = (changes: Partial<typeof OPTIONS>) => {
    const options = { ...OPTIONS, ...changes };
    requireMemory(SPEC, planMemory(SPEC, WEIGHTS, options), options, available);
  };
  check({ contextTokens: context });
  check({ slots });
  expect(() => check({ slots: slots + 1 })).toThrow();
  // Shorter rotary tables leave a little more than the advice counts on.
  expect(() => check({ contextTokens: context + 16 })).toThrow();
});

test("prompts that are kept count, and are the first to be advised less of", () => {
  const options = { ...OPTIONS, prefixBytes: 4e9 };
  const plan = planMemory(SPEC, WEIGHTS, options);
  expect(plan.totalBytes).toBe(planMemory(SPEC, WEIGHTS, OPTIONS).totalBytes + 4e9);
  expect(() => requireMemory(SPEC, plan, options, plan.totalBytes)).not.toThrow();
  expect(() => requireMemory(SPEC, plan, options, plan.totalBytes - 1e9)).toThrow(
    /prompts that are kept 4\.00 GB.*prefixCacheMegabytes 3000 or/,
  );
});

test("replies that wait to go on count too: half of what the slots take, unless asked for or too much", () => {
  const options = { ...OPTIONS, swapBytes: 2e9 };
  const plan = planMemory(SPEC, WEIGHTS, options);
  expect(plan.totalBytes).toBe(planMemory(SPEC, WEIGHTS, OPTIONS).totalBytes + 2e9);
  expect(() => requireMemory(SPEC, plan, options, plan.totalBytes - 1e9)).toThrow(
    /replies that wait to go on 2\.00 GB.*swapMegabytes 1000 or/,
  );
  const without = planMemory(SPEC, WEIGHTS, OPTIONS);
  expect(swapBytesOf(0, without, 100e9)).toBe(0);
  expect(swapBytesOf(5000, without, 0)).toBe(5e9);
  expect(swapBytesOf(undefined, without, 100e9)).toBe(1024e6);
  expect(swapBytesOf(undefined, without, without.totalBytes + 400e6)).toBe(100e6);
  const small = planMemory(SPEC, WEIGHTS, { ...OPTIONS, slots: 1, contextTokens: 100 });
  expect(swapBytesOf(undefined, small, 100e9)).toBe(small.cacheBytes / 2);
});

test("of prompts is kept what was asked for, else what the slots take, within a bound and what is left", () => {
  const plan = planMemory(SPEC, WEIGHTS, OPTIONS);
  expect(prefixBytesOf(0, plan, 100e9)).toBe(0);
  expect(prefixBytesOf(5000, plan, 0)).toBe(5e9);
  expect(prefixBytesOf(undefined, plan, 100e9)).toBe(1024e6);
  expect(prefixBytesOf(undefined, plan, plan.totalBytes + 300e6)).toBe(150e6);
  expect(prefixBytesOf(undefined, plan, 0)).toBe(0);
  const small = planMemory(SPEC, WEIGHTS, { ...OPTIONS, slots: 1, contextTokens: 100 });
  expect(prefixBytesOf(undefined, small, 100e9)).toBe(small.cacheBytes);
});

test("weights alone over what is there: no setting helps, and none is advised", () => {
  const plan = planMemory(SPEC, WEIGHTS, OPTIONS);
  expect(() => requireMemory(SPEC, plan, OPTIONS, 8e9)).toThrow(/Not even one slot fits/);
});

test("the memory that is there is some of the machine's", () => {
  const bytes = availableMemory();
  expect(bytes).toBeGreaterThan(50e6);
  expect(bytes).toBeLessThanOrEqual(totalmem());
});
