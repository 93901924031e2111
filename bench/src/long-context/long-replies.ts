import type { GenerateInput, InferenceClient } from "@persona-mesh/client";
import type { ModelText } from "@persona-mesh/model";
import type { ContinuationScore, GeneratedToken } from "@persona-mesh/protocol";

type Persona = NonNullable<GenerateInput["persona"]>;

/** A reply that fills the context. All lists have one entry per token. */
export interface LongReply {
  readonly ids: readonly number[];
  /** Of the distributions that the tokens were drawn from, nats. */
  readonly servedEntropies: readonly number[];
  /** What the unsteered model says that reads the reply, nats. */
  readonly entropies: readonly number[];
  readonly logProbs: readonly number[];
  /** Mean over the persona's layers, over the reference norm, before the injection. */
  readonly projections: readonly number[];
  /**
   * Largest difference between a token's log-probability as it was written, step by step, and as the same persona gives it
   * that reads the text in chunks, nats: what computing keys and values anew changes. Undefined where a window was rebuilt.
   */
  readonly rebuilt: number | undefined;
}

export interface LongRepliesOptions {
  readonly client: InferenceClient;
  readonly text: ModelText;
  /** Positions of prompt and reply together. */
  readonly contextTokens: number;
  /** Each gets one reply. */
  readonly prompts: readonly string[];
  readonly onProgress: (text: string) => void;
}

const IN_FLIGHT = 16;

/** As the desk samples. */
const TEMPERATURE = 0.6;

/** Has replies written that go on to the end of the context, and read by the unsteered model. */
export class LongReplies {
  readonly #options: LongRepliesOptions;

  constructor(options: LongRepliesOptions) {
    this.#options = options;
  }

  /**
   * One reply to every prompt.
   *
   * @param window - after so many tokens the reply goes on from a prefill of the prompt and its last `window` tokens alone
   */
  async of(name: string, persona: Persona, window?: number): Promise<LongReply[]> {
    const { prompts, onProgress } = this.#options;
    const replies: LongReply[] = new Array(prompts.length);
    let next = 0;
    let done = 0;
    const some = async () => {
      for (let index = next++; index < replies.length; index = next++) {
        replies[index] = await this.#reply(index, persona, window);
        onProgress(`${name}: ${++done}/${replies.length} replies`);
      }
    };
    await Promise.all(Array.from({ length: IN_FLIGHT }, some));
    return replies;
  }

  async #reply(index: number, persona: Persona, window: number | undefined): Promise<LongReply> {
    const { client, contextTokens } = this.#options;
    const prompt = this.#idsOf(index);
    const wanted = contextTokens - prompt.length;
    const written: GeneratedToken[] = [];
    while (written.length < wanted) {
      const maxTokens = Math.min(wanted - written.length, window ?? wanted);
      const kept = window === undefined ? [] : written.slice(-window).map(({ id }) => id);
      const { tokens } = await client.generateText({
        prompt: tokenPrompt([...prompt, ...kept]),
        persona,
        // Another seed for every call, or each would begin with the same random numbers.
        sampling: { temperature: TEMPERATURE, seed: BigInt(index * contextTokens + written.length) },
        maxTokens,
        minTokens: maxTokens,
        // What the guard would lower is what is to be seen.
        guard: { observeOnly: true, twin: false },
      });
      written.push(...tokens);
      if (tokens.length < maxTokens) throw new Error(`a reply ended after ${tokens.length} of ${maxTokens} tokens`);
    }
    const ids = written.map(({ id }) => id);
    const unsteered = (await this.#read(prompt, ids, { selector: { case: "unsteered", value: {} } })).unsteered;
    const steered = window === undefined ? (await this.#read(prompt, ids, persona)).steered : undefined;
    return {
      ids,
      servedEntropies: written.map(({ entropy }) => Math.max(0, entropy)),
      projections: written.map(({ projections }) => mean(projections)),
      entropies: unsteered?.entropies.map((value) => Math.max(0, value)) ?? [],
      logProbs: unsteered?.logProbs ?? [],
      rebuilt:
        steered && Math.max(...written.map(({ logProb }, at) => Math.abs(logProb - (steered.logProbs[at] ?? 0)))),
    };
  }

  async #read(prompt: readonly number[], ids: readonly number[], persona: Persona): Promise<ContinuationScore> {
    const { continuations } = await this.#options.client.score({
      prompt: tokenPrompt(prompt),
      persona,
      continuations: [{ input: { case: "tokenIds", value: { ids: [...ids] } } }],
    });
    return continuations[0] as ContinuationScore;
  }

  #idsOf(index: number): number[] {
    const { text, prompts } = this.#options;
    const messages = [{ role: "user" as const, content: prompts[index] as string }];
    return [...(text.chatTemplate?.render(messages).ids ?? [])];
  }
}

function tokenPrompt(ids: readonly number[]): NonNullable<GenerateInput["prompt"]> {
  return { input: { case: "tokenIds", value: { ids: [...ids] } } };
}

function mean(values: readonly number[]): number {
  return values.length === 0 ? 0 : values.reduce((a, b) => a + b, 0) / values.length;
}
