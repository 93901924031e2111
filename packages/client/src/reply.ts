import type {
  Finished,
  GeneratedToken,
  GenerateResponse,
  GuardEvent,
  PersonaSwitched,
  PromptToken,
  Started,
} from "@persona-mesh/protocol";

/** One event of a reply: `{ case: "tokens", value: Tokens }` and so on. */
export type GenerateEvent = Extract<GenerateResponse["event"], { case: string }>;

/** An event of one of the replies of a call. */
export interface ChoiceEvent {
  /** From 0. */
  readonly choice: number;
  readonly event: GenerateEvent;
}

/** A whole reply: the text, the proof of how it was made, and what it cost. */
export interface Reply {
  readonly text: string;
  readonly tokens: readonly GeneratedToken[];
  /** The proof: model, graph, persona, seed. */
  readonly started: Started;
  /** Personas that the stream took on while it ran, in order. */
  readonly switches: readonly PersonaSwitched[];
  /** What the guard did, in order. */
  readonly guardEvents: readonly GuardEvent[];
  /** Of the prompt's tokens but the first, where they were asked for. */
  readonly promptTokens: readonly PromptToken[];
  readonly finished: Finished;
  /** From the call to its first tokens as this side saw it, in milliseconds; undefined for an empty reply. */
  readonly firstTokenMillis: number | undefined;
  /** From the call to its end as this side saw it, in milliseconds. */
  readonly totalMillis: number;
}

/**
 * Read a Generate stream to its end.
 *
 * @param events - one `started`, any tokens and switches, one `finished`: what `InferenceClient.generate` gives
 * @param onText - gets the text piece by piece; what it returns is waited for
 * @throws what the stream throws; Error when the events are not such a stream
 */
export async function collectReply(
  events: AsyncIterable<GenerateEvent>,
  onText?: (text: string) => void | Promise<void>,
): Promise<Reply> {
  const collector = new ReplyCollector();
  for await (const event of events) {
    collector.take(event);
    if (event.case === "tokens") await onText?.(event.value.text);
  }
  return collector.reply();
}

/** Takes the events of one reply and becomes the reply. */
export class ReplyCollector {
  readonly #begun = performance.now();
  readonly #tokens: GeneratedToken[] = [];
  readonly #switches: PersonaSwitched[] = [];
  readonly #guardEvents: GuardEvent[] = [];
  readonly #promptTokens: PromptToken[] = [];
  #text = "";
  #started: Started | undefined;
  #finished: Finished | undefined;
  #firstTokenMillis: number | undefined;
  #totalMillis = 0;

  take(event: GenerateEvent): void {
    switch (event.case) {
      case "started":
        this.#started = event.value;
        break;
      case "promptLogProbs":
        for (const token of event.value.tokens) this.#promptTokens.push(token);
        break;
      case "tokens":
        this.#firstTokenMillis ??= performance.now() - this.#begun;
        for (const token of event.value.tokens) this.#tokens.push(token);
        this.#text += event.value.text;
        break;
      case "personaSwitched":
        this.#switches.push(event.value);
        break;
      case "guard":
        this.#guardEvents.push(event.value);
        break;
      case "finished":
        this.#finished = event.value;
        this.#totalMillis = performance.now() - this.#begun;
        break;
    }
  }

  /** @throws Error when start or end is missing */
  reply(): Reply {
    const started = this.#started;
    const finished = this.#finished;
    if (started === undefined || finished === undefined) throw new Error("the stream has no start or no end");
    return {
      text: this.#text,
      tokens: this.#tokens,
      started,
      switches: this.#switches,
      guardEvents: this.#guardEvents,
      promptTokens: this.#promptTokens,
      finished,
      firstTokenMillis: this.#firstTokenMillis,
      totalMillis: this.#totalMillis,
    };
  }
}
