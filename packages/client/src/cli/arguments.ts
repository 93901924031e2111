import { InvalidArgumentError } from "commander";

/**
 * Parsers of option values. Each throws commander's InvalidArgumentError, which names the option and the value, so the
 * messages here only say what would be right.
 */

/** Largest wait that setTimeout takes, and more than any call may last. */
const MAX_DURATION_MILLIS = 2 ** 31 - 1;

const MAX_SEED = 2n ** 64n - 1n;

const MAX_BIAS = 100;

/** Longest list of layers: more than any model has. */
const MAX_LAYERS = 1024;

/** A whole number within bounds, both included. */
export function integer(min: number, max: number): (value: string) => number {
  return (value) => {
    const number = Number(value);
    if (!/^[+-]?\d+$/.test(value.trim()) || number < min || number > max) {
      throw new InvalidArgumentError(`It must be a whole number from ${min} to ${max}.`);
    }
    return number;
  };
}

/** A decimal number within bounds, both included. */
export function decimal(min: number, max: number): (value: string) => number {
  return (value) => {
    const number = Number(value);
    if (value.trim() === "" || !(number >= min && number <= max)) {
      throw new InvalidArgumentError(`It must be a number from ${min} to ${max}.`);
    }
    return number;
  };
}

/** A 64-bit seed, decimal or 0x hexadecimal. */
export function seed(value: string): bigint {
  if (/^(\d+|0x[0-9a-f]+)$/i.test(value)) {
    const number = BigInt(value);
    if (number <= MAX_SEED) return number;
  }
  throw new InvalidArgumentError(`It must be a whole number from 0 to ${MAX_SEED}.`);
}

const UNIT_MILLIS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** A duration in milliseconds: "500ms", "30s", "5m", "1.5h", "7d"; a bare number is seconds. */
export function duration(value: string): number {
  const match = /^(\d+(?:\.\d+)?)(ms|s|m|h|d)?$/.exec(value.trim());
  const millis = match ? Math.round(Number(match[1]) * (UNIT_MILLIS[match[2] ?? "s"] ?? 1)) : 0;
  if (millis < 1 || millis > MAX_DURATION_MILLIS) {
    throw new InvalidArgumentError('It must be a duration such as "500ms", "30s", "5m" or "1h", at most 24 days.');
  }
  return millis;
}

/** Layers in the order of the model: "2,3,4" or "2-4"; each once. */
export function layerList(value: string): number[] {
  const layers = new Set<number>();
  for (const part of value.split(",")) {
    const match = /^\s*(\d{1,4})(?:-(\d{1,4}))?\s*$/.exec(part);
    const first = Number(match?.[1]);
    const last = match?.[2] === undefined ? first : Number(match[2]);
    if (!match || last < first || last >= MAX_LAYERS) {
      throw new InvalidArgumentError('It must be a list of layers such as "2,3,4" or "2-4"; the first layer is 0.');
    }
    for (let layer = first; layer <= last; layer++) layers.add(layer);
  }
  return [...layers].sort((a, b) => a - b);
}

/** An option that may be given several times: collects its values in order. */
export function repeated(value: string, previous: string[] | undefined): string[] {
  return [...(previous ?? []), value];
}

/** The same of whole numbers within bounds. */
export function repeatedInteger(min: number, max: number): (value: string, previous: number[] | undefined) => number[] {
  const parse = integer(min, max);
  return (value, previous) => [...(previous ?? []), parse(value)];
}

/** A token and what is added to its logit, "1234=-5"; may be given several times. */
export function logitBias(
  value: string,
  previous: { readonly id: number; readonly bias: number }[] | undefined,
): { readonly id: number; readonly bias: number }[] {
  const match = /^(\d{1,10})=(-?\d+(?:\.\d+)?)$/.exec(value.trim());
  const bias = Number(match?.[2]);
  if (match === null || !(Math.abs(bias) <= MAX_BIAS)) {
    throw new InvalidArgumentError(
      `It must be a token id and a number from -${MAX_BIAS} to ${MAX_BIAS}, such as 1234=-5.`,
    );
  }
  return [...(previous ?? []), { id: Number(match[1]), bias }];
}

/** One of the words, separated by commas. */
export function wordList<Word extends string>(words: readonly Word[]): (value: string) => Word[] {
  return (value) => {
    const parts = value.split(",").map((part) => part.trim());
    const unknown = parts.find((part) => !(words as readonly string[]).includes(part));
    if (unknown !== undefined) {
      throw new InvalidArgumentError(`It must be one or more of ${words.join(", ")}, separated by commas.`);
    }
    return [...new Set(parts as Word[])];
  };
}
