import { freemem } from "node:os";
import type { DecoderSpec } from "@persona-mesh/model";
import { requireConfig } from "@persona-mesh/service";
import { DEFAULT_CONTEXT } from "./options.ts";

/** Code, compiled graphs and intermediate results, bytes; what remains when weights, cache and table are taken away. */
const RUNTIME_BYTES = 300e6;

/** Most memory for keys and values outside of the slots where nothing is said of it, bytes: 10,000 tokens of a small model. */
const MOST_UNASKED_BYTES = 1024e6;

/** What of the configuration takes memory. */
export interface MemoryOptions {
  readonly slots: number;
  readonly tableRows: number;
  /** Positions of a slot. */
  readonly contextTokens: number;
  /** Keys and values of prompts that are kept, bytes. */
  readonly prefixBytes: number;
  /** Keys and values of replies that gave their slots up, bytes. */
  readonly swapBytes: number;
}

/** Bytes that a worker takes once every slot is full. */
export interface MemoryPlan {
  /** The kernels keep weights in an order of their own. */
  readonly weightBytes: number;
  /** Keys and values of every slot. */
  readonly cacheBytes: number;
  readonly tableBytes: number;
  readonly prefixBytes: number;
  readonly swapBytes: number;
  /** All of it, with the rotary tables and what the runtime itself takes. */
  readonly totalBytes: number;
}

/**
 * Positions of a slot: what was asked for, else the model's context up to {@link DEFAULT_CONTEXT}.
 *
 * @throws ServiceError CONFIG_INVALID when it is over the model's
 */
export function servedContext(
  { contextTokens }: Pick<DecoderSpec, "contextTokens">,
  asked: number | undefined,
): number {
  if (asked === undefined) return Math.min(contextTokens, DEFAULT_CONTEXT);
  requireConfig(asked <= contextTokens, "context", `${asked} tokens, the model has ${contextTokens}`);
  return asked;
}

export function planMemory(spec: DecoderSpec, weightBytes: number, options: MemoryOptions): MemoryPlan {
  const { slots, tableRows, contextTokens, prefixBytes, swapBytes } = options;
  const cacheBytes = slots * contextTokens * cacheBytesPerToken(spec);
  const tableBytes = tableRows * spec.hidden * Float32Array.BYTES_PER_ELEMENT;
  const ropeBytes = spec.ropes.reduce(
    (sum, { rotaryDim }) => sum + contextTokens * rotaryDim * Float32Array.BYTES_PER_ELEMENT,
    0,
  );
  const totalBytes = weightBytes + cacheBytes + tableBytes + ropeBytes + prefixBytes + swapBytes + RUNTIME_BYTES;
  return { weightBytes, cacheBytes, tableBytes, prefixBytes, swapBytes, totalBytes };
}

/**
 * Memory for prompts' keys and values: what was asked for, else as much as the slots take, within bounds that leave room.
 *
 * @param without - the plan without any
 * @param available - bytes; see {@link availableMemory}
 */
export function prefixBytesOf(megabytes: number | undefined, without: MemoryPlan, available: number): number {
  if (megabytes !== undefined) return megabytes * 1e6;
  const left = Math.max(0, available - without.totalBytes);
  return Math.min(without.cacheBytes, MOST_UNASKED_BYTES, Math.floor(left / 2));
}

/** Memory for replies that gave their slots up: what was asked for, else half of what the slots take, within such bounds. */
export function swapBytesOf(megabytes: number | undefined, without: MemoryPlan, available: number): number {
  if (megabytes !== undefined) return megabytes * 1e6;
  const left = Math.max(0, available - without.totalBytes);
  return Math.min(Math.floor(without.cacheBytes / 2), MOST_UNASKED_BYTES, Math.floor(left / 4));
}

/**
 * Refuse what cannot fit, instead of being killed in the middle of somebody's reply.
 *
 * @param available - bytes; see {@link availableMemory}
 * @throws ServiceError CONFIG_INVALID with what takes how much, and what would fit
 */
export function requireMemory(spec: DecoderSpec, plan: MemoryPlan, options: MemoryOptions, available: number): void {
  const { slots, contextTokens } = options;
  const left = available - (plan.totalBytes - plan.cacheBytes);
  const short = plan.totalBytes - available;
  const bytesPerToken = cacheBytesPerToken(spec);
  const fitting = [
    [`context ${Math.floor(left / (slots * bytesPerToken))}`, left >= slots * bytesPerToken],
    [`prefixCacheMegabytes ${Math.floor((plan.prefixBytes - short) / 1e6)}`, plan.prefixBytes >= short],
    [`swapMegabytes ${Math.floor((plan.swapBytes - short) / 1e6)}`, plan.swapBytes >= short],
    [`slots ${Math.floor(left / (contextTokens * bytesPerToken))}`, left >= contextTokens * bytesPerToken],
  ] as const;
  const advice = fitting.flatMap(([setting, fits]) => (fits ? [setting] : [])).join(" or ");
  requireConfig(
    plan.totalBytes <= available,
    "context",
    `${slots} slots of ${contextTokens} tokens take ${gigabytes(plan.cacheBytes)} of KV cache, the steering table ` +
      `${gigabytes(plan.tableBytes)}, prompts that are kept ${gigabytes(plan.prefixBytes)}, replies that ` +
      `wait to go on ${gigabytes(plan.swapBytes)}, the weights ` +
      `${gigabytes(plan.weightBytes)}, with the runtime ` +
      `${gigabytes(plan.totalBytes)} in all; ${gigabytes(available)} is there. ` +
      (advice === "" ? "Not even one slot fits beside the weights." : `What fits: ${advice}.`),
  );
}

/**
 * Bytes that this process may still take: what the machine can free, or what its control group leaves it where that is
 * less. The group's own figure would count the files it has read, which give way, as taken.
 */
export function availableMemory(): number {
  const limit = process.constrainedMemory() ?? 0;
  // Without a limit it is 0, or far more than any machine has.
  return limit > 0 ? Math.min(freemem(), Math.max(0, limit - process.memoryUsage.rss())) : freemem();
}

function cacheBytesPerToken({ layers, kvHeads, headDim }: DecoderSpec): number {
  return 2 * layers * kvHeads * headDim * Float32Array.BYTES_PER_ELEMENT;
}

function gigabytes(bytes: number): string {
  return `${(bytes / 1e9).toPrecision(3)} GB`;
}
