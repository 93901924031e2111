/**
 * Hands events from the engine's loop to one reader, in order. The loop never waits for the reader: what a reply can
 * queue is bounded by its tokens.
 */
export class EventQueue<Event> implements AsyncIterable<Event> {
  readonly #waiting: Event[] = [];
  #end: { readonly error: unknown } | "ended" | undefined;
  #wake: () => void = () => {};

  push(event: Event): void {
    this.#waiting.push(event);
    this.#wake();
  }

  /** No more events; the reader gets what is waiting first. */
  end(): void {
    this.#end ??= "ended";
    this.#wake();
  }

  /** The reader gets what is waiting, then the error. */
  fail(error: unknown): void {
    this.#end ??= { error };
    this.#wake();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Event, void, void> {
    for (;;) {
      const event = this.#waiting.shift();
      if (event !== undefined) yield event;
      else if (this.#end === "ended") return;
      else if (this.#end !== undefined) throw this.#end.error;
      else {
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      }
    }
  }
}
