import type { Finished, GeneratedToken, GenerateResponse, PersonaSwitched, Started } from "@persona-mesh/protocol";

/** One event of a Generate stream: `{ case: "tokens", value: Tokens }` and so on. */
export type GenerateEvent = Extract<GenerateResponse["event"], { case: string }>;

/** A whole reply: the text, the proof of how it was made, and what it cost. */
export interface Reply {
  readonly text: string;
  readonly tokens: readonly GeneratedToken[];
  /** The proof: model, graph, persona, seed. */
  readonly started: Started;
  /** Personas that the stream took on while it ran, in order. */
  readonly switches: readonly PersonaSwitched[];
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
  const begun = performance.now();
  const tokens: GeneratedToken[] = [];
  const switches: PersonaSwitched[] = [];
  let text = "";
  let started: Started | undefined;
  let finished: Finished | undefined;
  let firstTokenMillis: number | undefined;
  for await (const event of events) {
    switch (event.case) {
      case "started":
        started = event.value;
        break;
      case "tokens":
        firstTokenMillis ??= performance.now() - begun;
        for (const token of event.value.tokens) tokens.push(token);
        text += event.value.text;
        await onText?.(event.value.text);
        break;
      case "personaSwitched":
        switches.push(event.value);
        break;
      case "finished":
        finished = event.value;
        break;
    }
  }
  if (started === undefined || finished === undefined) throw new Error("the stream has no start or no end");
  return { text, tokens, started, switches, finished, firstTokenMillis, totalMillis: performance.now() - begun };
}
