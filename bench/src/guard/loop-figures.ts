import { atLeast, context, type Figure } from "../figure.ts";
import { guardedReplies, swept } from "./guarded-replies.ts";
import { loopStart } from "./loop-start.ts";
import { type GuardStage, TEMPERATURE } from "./stage.ts";

/** Where replies loop most, and how many of each are looked at. */
const ALPHAS = [0.9, 1.2];
const TEMPERATURES = [0, TEMPERATURE];
const REPLIES = 96;

const GOAL = { percent: 95, tokens: 64 };

/**
 * Of replies that loop when nothing is done: those that the guard finds in time. Random directions make loops; tones make noise
 * long before.
 */
export async function loopFigures({ client, desk, random, onProgress }: GuardStage): Promise<Figure[]> {
  const looping: { readonly start: number; readonly caught: number }[] = [];
  for (const alpha of ALPHAS) {
    for (const temperature of TEMPERATURES) {
      onProgress(`loops, alpha ${alpha}, temperature ${temperature}`);
      const replies = await guardedReplies(client, desk, {
        persona: (reply) => swept(random.persona(alpha, reply)),
        temperature,
        observeOnly: true,
        twin: false,
        replies: REPLIES,
      });
      for (const { tokens, finished } of replies) {
        const start = loopStart(tokens.map(({ id }) => id));
        const caught = finished.guardEvents[0]?.afterTokens ?? Number.POSITIVE_INFINITY;
        if (start !== undefined) looping.push({ start, caught });
      }
    }
  }
  const share = (holds: (reply: (typeof looping)[number]) => boolean) =>
    (100 * looping.filter(holds).length) / Math.max(1, looping.length);
  const { tokens, percent } = GOAL;
  const inTime = share(({ start, caught }) => caught <= start + tokens);
  return [
    context("replies that loop when nothing is done", looping.length, "replies"),
    atLeast(`of those: caught within ${tokens} tokens of where the loop begins`, inTime, "%", percent),
    context(
      `of those: caught within the reply's first ${tokens} tokens`,
      share(({ caught }) => caught <= tokens),
      "%",
    ),
  ];
}
