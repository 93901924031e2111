import type { Logger } from "@persona-mesh/service";
import type { Pool, PoolClient } from "pg";

/**
 * One connection that listens. Only a hint: whoever waits reads the table anyway after a while, so a connection that is
 * lost costs time and no change.
 */
export class ChangeListener implements AsyncDisposable {
  readonly #pool: Pool;
  readonly #channel: string;
  readonly #log: Logger;
  #client: PoolClient | undefined;
  #connecting: Promise<void> | undefined;
  #heard = false;
  #isNews: (told: string) => boolean = () => true;
  #wake: (() => void) | undefined;

  constructor(pool: Pool, channel: string, log: Logger) {
    this.#pool = pool;
    this.#channel = channel;
    this.#log = log;
  }

  /**
   * Resolves when something was heard since the last call, the time is up, or the signal fires. For one waiter.
   *
   * @param isNews - whether what is told is worth waking up for; asked from now on
   */
  async next(milliseconds: number, signal: AbortSignal, isNews: (told: string) => boolean): Promise<void> {
    this.#isNews = isNews;
    if (this.#client === undefined) this.#connecting ??= this.#connect();
    if (!this.#heard && !signal.aborted) {
      await new Promise<void>((resolve) => {
        const done = () => {
          clearTimeout(timer);
          signal.removeEventListener("abort", done);
          this.#wake = undefined;
          resolve();
        };
        const timer = setTimeout(done, milliseconds);
        signal.addEventListener("abort", done, { once: true });
        this.#wake = done;
      });
    }
    this.#heard = false;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#connecting;
    this.#client?.release(true);
    this.#client = undefined;
  }

  async #connect(): Promise<void> {
    let client: PoolClient | undefined;
    try {
      const connected = await this.#pool.connect();
      client = connected;
      const lost = () => {
        if (this.#client !== connected) return;
        this.#client = undefined;
        connected.release(true);
        this.#log.warn("the listening connection was lost; changes are found by polling until there is another");
      };
      connected.on("error", lost);
      connected.on("end", lost);
      connected.on("notification", ({ payload = "" }) => {
        if (!this.#isNews(payload)) return;
        this.#heard = true;
        this.#wake?.();
      });
      await connected.query(`LISTEN ${this.#channel}`);
      this.#client = connected;
      // What was told before this moment was not heard.
      this.#heard = true;
      this.#wake?.();
    } catch (error) {
      client?.release(true);
      this.#log.warn({ err: error }, "cannot listen for changes; they are found by polling");
    } finally {
      this.#connecting = undefined;
    }
  }
}
