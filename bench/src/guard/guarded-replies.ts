import type { GenerateInput, InferenceClient, Reply } from "@persona-mesh/client";
import type { Desk } from "../../../demo/src/desk.ts";

export type Persona = NonNullable<GenerateInput["persona"]>;

/** Long enough for a loop to begin and to be caught; sound replies end by themselves, after about 40. */
const MAX_TOKENS = 160;

/** Half of the worker's slots: the other half is for twins. */
const IN_FLIGHT = 8;

export const unsteered = (): Persona => ({ selector: { case: "unsteered", value: {} } });

/** How a condition is run. */
export interface Condition {
  /** What a reply wears, by its number. */
  readonly persona: (reply: number) => Persona;
  readonly temperature: number;
  /** The guard only reports. */
  readonly observeOnly: boolean;
  readonly twin: boolean;
  /** Which held-out prompts, and how many. */
  readonly from?: number;
  readonly replies: number;
  /** @default 160 */
  readonly maxTokens?: number;
  /** A system line for each reply, in turn. */
  readonly systemLines?: readonly string[];
}

/** A reply and the prompt that it answers. */
export interface GuardedReply extends Reply {
  readonly prompt: string;
}

/** Replies to held-out prompts; every one has a seed of its own, the same in every condition. */
export async function guardedReplies(
  client: InferenceClient,
  desk: Desk,
  { persona, temperature, observeOnly, twin, from = 0, replies, maxTokens = MAX_TOKENS, systemLines }: Condition,
): Promise<GuardedReply[]> {
  const results: GuardedReply[] = new Array(replies);
  let next = 0;
  const runSome = async () => {
    for (let index = next++; index < replies; index = next++) {
      const number = from + index;
      const prompt = desk.prompts[number % desk.prompts.length]?.text ?? "";
      const system = systemLines?.[number % systemLines.length];
      const user = { role: "user", content: prompt };
      const messages = system === undefined ? [user] : [{ role: "system", content: system }, user];
      const reply = await client.generateText({
        prompt: { input: { case: "chat", value: { messages } } },
        persona: persona(number),
        sampling: { temperature, seed: BigInt(number) },
        maxTokens,
        guard: { observeOnly, twin },
      });
      results[index] = { ...reply, prompt };
    }
  };
  await Promise.all(Array.from({ length: IN_FLIGHT }, runSome));
  return results;
}

/** An inline persona for an evaluation: alphas and doses beyond what a tenant may have. */
export function swept(persona: Persona): Persona {
  const { selector } = persona;
  if (selector?.case !== "inline") throw new Error("only an inline persona can be swept");
  return { ...persona, selector: { case: "inline", value: { ...selector.value, sweep: true } } } as Persona;
}

/** Share of replies in which the guard found a window out of bounds. */
export function tripShare(replies: readonly Reply[]): number {
  return replies.filter(({ finished }) => finished.guardEvents.length > 0).length / replies.length;
}
