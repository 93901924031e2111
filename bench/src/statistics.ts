import { Random } from "./load/random.ts";

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const upper = sorted[middle] as number;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] as number) + upper) / 2;
}

export interface Interval {
  readonly low: number;
  readonly high: number;
}

/**
 * 95 % interval of the median, from the order statistics (binomial, normal approximation): it assumes nothing of the
 * distribution, which on a shared machine has a long tail.
 */
export function medianInterval(values: readonly number[]): Interval {
  const sorted = [...values].sort((a, b) => a - b);
  const n = sorted.length;
  const reach = 0.98 * Math.sqrt(n);
  const low = Math.max(0, Math.floor(n / 2 - reach));
  const high = Math.min(n - 1, Math.ceil(n / 2 + reach));
  return { low: sorted[low] as number, high: sorted[high] as number };
}

const RESAMPLES = 2000;

/**
 * 95 % interval of a statistic of independent observations, by the bootstrap.
 *
 * @param count - observations
 * @param statistic - of the observations with these indices, some of them more than once
 */
export function bootstrapInterval(count: number, statistic: (indices: readonly number[]) => number): Interval {
  const random = new Random(1);
  const values = Array.from({ length: RESAMPLES }, () =>
    statistic(Array.from({ length: count }, () => random.below(count))),
  ).sort((a, b) => a - b);
  const at = (share: number) => values[Math.round(share * (values.length - 1))] as number;
  return { low: at(0.025), high: at(0.975) };
}
