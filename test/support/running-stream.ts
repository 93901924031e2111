import type { GenerateEvent, GenerateInput, InferenceClient } from "@persona-mesh/client";
import type { Finished, PersonaSwitched, Started } from "@persona-mesh/protocol";

/** A Generate stream that is read as it comes, so that things can happen in its middle. */
export class RunningStream {
  readonly #stream: AsyncGenerator<GenerateEvent, void, undefined>;
  /** Layers that each token was steered at. */
  readonly steered: number[] = [];
  readonly switches: PersonaSwitched[] = [];
  started: Started | undefined;
  finished: Finished | undefined;

  constructor(client: InferenceClient, request: GenerateInput) {
    this.#stream = client.generate(request);
  }

  /**
   * Read on until something has happened.
   *
   * @throws StreamOver when the stream ends before; ClientError when it fails
   */
  async until(condition: () => boolean): Promise<void> {
    while (!condition()) {
      const { value, done } = await this.#stream.next();
      if (done) throw new StreamOver("the stream was over before anything happened");
      if (value.case === "started") this.started = value.value;
      if (value.case === "finished") this.finished = value.value;
      if (value.case === "personaSwitched") this.switches.push(value.value);
      if (value.case === "tokens") {
        this.steered.push(...value.value.tokens.map(({ projections }) => projections.length));
      }
    }
  }

  tokens(count: number): Promise<void> {
    const from = this.steered.length;
    return this.until(() => this.steered.length >= from + count);
  }

  switched(count = 1): Promise<void> {
    return this.until(() => this.switches.length >= count);
  }

  async end(): Promise<void> {
    await this.#stream.return();
  }
}

class StreamOver extends Error {
  override readonly name = "StreamOver";
}

/** More than any busy machine needs, so that only a defect reaches it. */
const MOST_ATTEMPTS = 5;

/**
 * A context holds only so many tokens, and how long news takes is up to the machine: a stream that was over first is no
 * failure, and another attempt is made.
 *
 * @param attempt - gets the number of the attempt, from 0
 */
export async function withinOneStream(attempt: (attempt: number) => Promise<void>): Promise<void> {
  for (let number = 0; ; number++) {
    try {
      return await attempt(number);
    } catch (error) {
      if (!(error instanceof StreamOver) || number + 1 === MOST_ATTEMPTS) throw error;
    }
  }
}
