import type { InferenceClient, Reply } from "@persona-mesh/client";
import { type CoherenceBaseline, coherence, type Reply as ScoredReply } from "@persona-mesh/steering";
import type { Desk } from "./desk.ts";
import { classify } from "./linear-classifier.ts";

const IN_FLIGHT = 8;

/** Share of the replies that the tone classifier gives to a tone. */
export function toneShare(desk: Desk, replies: readonly Reply[], tone: string): number {
  return share(replies, ({ text }) => classify(desk.toneClassifier, text) === tone);
}

/** Share of the replies that are about what their prompt is about. Reply i answers prompt i. */
export function onTopicShare(desk: Desk, replies: readonly Reply[]): number {
  return share(
    replies,
    ({ text }, i) => classify(desk.topicClassifier, text) === desk.prompts[i % desk.prompts.length]?.topic,
  );
}

/**
 * What the unsteered model thinks of replies, token by token: steered text is judged by the model that it came from, not
 * by the steered one, which always agrees with itself.
 */
export async function scoreUnsteered(
  client: InferenceClient,
  desk: Desk,
  replies: readonly Reply[],
  signal: AbortSignal,
): Promise<ScoredReply[]> {
  const scored: ScoredReply[] = new Array(replies.length);
  let next = 0;
  const scoreSome = async () => {
    for (let index = next++; index < replies.length; index = next++) {
      const tokenIds = (replies[index] as Reply).tokens.map(({ id }) => id);
      const content = desk.prompts[index % desk.prompts.length]?.text ?? "";
      const { continuations } = await client.score(
        {
          prompt: { input: { case: "chat", value: { messages: [{ role: "user", content }] } } },
          persona: { selector: { case: "unsteered", value: {} } },
          continuations: [{ input: { case: "tokenIds", value: { ids: tokenIds } } }],
        },
        { signal },
      );
      const unsteered = continuations[0]?.unsteered;
      if (unsteered === undefined) throw new Error("the worker gave no score");
      scored[index] = { tokenIds, entropies: atLeastZero(unsteered.entropies), logProbs: unsteered.logProbs };
    }
  };
  await Promise.all(Array.from({ length: IN_FLIGHT }, scoreSome));
  return scored;
}

/** Mean coherence score, 0 to 1. */
export function meanCoherence(replies: readonly ScoredReply[], baseline: CoherenceBaseline): number {
  return replies.reduce((sum, reply) => sum + coherence(reply, baseline).score, 0) / replies.length;
}

/** float32 rounding may leave an entropy a hair below 0. */
function atLeastZero(values: readonly number[]): number[] {
  return values.map((value) => Math.max(0, value));
}

function share<T>(items: readonly T[], holds: (item: T, index: number) => boolean): number {
  return items.filter(holds).length / items.length;
}
