/** When a reply got where, in the clock of `performance.now()`, milliseconds. Undefined for what it did not live to see. */
export interface ReplyTimes {
  readonly queued: number;
  /** Its first step began. */
  readonly started?: number;
  /** Its first token was there. */
  readonly firstToken?: number;
  readonly ended: number;
  /** Since it had started, how long it had no slot, milliseconds. */
  readonly preemptedMillis: number;
}

/** Notes the moments of a reply, each once: later calls change nothing. */
export class ReplyClock {
  readonly #made = performance.now();
  #queued: number | undefined;
  #started: number | undefined;
  #firstToken: number | undefined;
  #ended: number | undefined;
  #preempted: number | undefined;
  #preemptedMillis = 0;

  queue(): void {
    this.#queued ??= performance.now();
  }

  start(): void {
    this.#started ??= performance.now();
  }

  firstToken(): void {
    this.#firstToken ??= performance.now();
  }

  /** It gave its slot up. Before its first step it goes on waiting, as it did. */
  preempt(): void {
    if (this.#started !== undefined) this.#preempted ??= performance.now();
  }

  resume(): void {
    if (this.#preempted !== undefined) this.#preemptedMillis += performance.now() - this.#preempted;
    this.#preempted = undefined;
  }

  end(): void {
    this.resume();
    this.#ended ??= performance.now();
  }

  /** As of now, for a reply that has not ended. One that never got into the queue was there when it was made. */
  times(): ReplyTimes {
    return {
      queued: this.#queued ?? this.#made,
      ...(this.#started === undefined ? {} : { started: this.#started }),
      ...(this.#firstToken === undefined ? {} : { firstToken: this.#firstToken }),
      ended: this.#ended ?? performance.now(),
      preemptedMillis: this.#preemptedMillis,
    };
  }
}
