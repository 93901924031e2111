import type { BaselineReply } from "../guard-band.ts";
import { gaussian, uniform } from "./support.ts";

/** Shared by the tests only. */

export interface ReplyShape {
  readonly seed: number;
  /** @default 60 */
  readonly tokens?: number;
  /** Mean entropy, nats. @default 0.8 */
  readonly entropy?: number;
  /** Standard deviation between replies, of the logarithm. @default 0.15 */
  readonly between?: number;
}

/** A reply as a model writes it: entropies that spread between tokens and between replies, tokens of a skewed vocabulary. */
export function naturalReply({ seed, tokens = 60, entropy = 0.8, between = 0.15 }: ReplyShape): BaselineReply {
  const [normal, next] = [gaussian(seed), uniform(seed + 0.5)];
  const level = entropy * Math.exp(between * normal());
  return {
    tokens: Array.from({ length: tokens }, () => Math.floor(400 * next() ** 2)),
    // Exponential between tokens: many are certain, few are open.
    entropies: Array.from({ length: tokens }, () => -level * Math.log(1 - next())),
  };
}

export function naturalReplies(count: number, seed: number, shape: Omit<ReplyShape, "seed"> = {}): BaselineReply[] {
  return Array.from({ length: count }, (_, i) => naturalReply({ ...shape, seed: 1000 * seed + i }));
}
