import { setTimeout as sleep } from "node:timers/promises";
import type { WatchResponse } from "@persona-mesh/protocol/registry";
import { Backoff, type BackoffOptions } from "./backoff.ts";
import type { Update } from "./picture.ts";
import type { DistributionClient, RegistryConnection } from "./registry-connection.ts";
import { WatchBroken, WatchSequence } from "./watch-sequence.ts";

/** A registry says something at least every 5 seconds: three times that without a word is a dead connection. Milliseconds. */
const SILENCE = 15_000;

/** From a tenth of a second, for a registry that restarts, to what a registry of many workers bears. Milliseconds. */
const BACKOFF: BackoffOptions = { first: 100, most: 15_000 };

/** As long as servers let a stream live; it is resumed when it ends. Milliseconds. */
const STREAM_LIFE = 3_600_000;

export interface WatchEvents {
  /** A message came: the registry is there. */
  readonly onContact: () => void;
  /** The next message is read when this resolves. */
  readonly onUpdate: (update: Update) => Promise<void>;
  /** Nothing changed up to here. */
  readonly onBookmark: (revision: bigint) => Promise<void>;
  /** Called once for each connection that was lost or did not come about. */
  readonly onLost: (error: unknown, retryInMs: number) => void;
}

export interface WatchOptions {
  readonly modelChecksum: string;
  readonly worker: string;
  /** @default 15 s */
  readonly silenceMs?: number;
  readonly backoff?: BackoffOptions;
}

/**
 * Follows the registry for as long as it lives: watches, and watches again from the last revision when the stream ends,
 * falls silent or breaks its rules. It starts from a snapshot: a position from an earlier process may be of another history.
 */
export class WatchClient implements AsyncDisposable {
  readonly #connection: RegistryConnection;
  readonly #events: WatchEvents;
  readonly #options: WatchOptions;
  readonly #closing = new AbortController();
  readonly #running: Promise<void>;
  /** Up to here everything was handed on. */
  #revision: bigint | undefined;

  constructor(connection: RegistryConnection, options: WatchOptions, events: WatchEvents) {
    this.#connection = connection;
    this.#options = options;
    this.#events = events;
    this.#running = this.#run();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort();
    await this.#running;
  }

  async #run(): Promise<void> {
    const { signal } = this.#closing;
    const backoff = new Backoff(this.#options.backoff ?? BACKOFF);
    while (!signal.aborted) {
      let failure: unknown;
      try {
        await this.#watch(this.#connection.open(), () => backoff.reset());
        failure = new Error("the registry ended the watch");
      } catch (error) {
        failure = error;
      }
      if (signal.aborted) return;
      // What it said cannot be trusted to add up: everything again.
      if (failure instanceof WatchBroken) this.#revision = undefined;
      const wait = backoff.next();
      this.#events.onLost(failure, wait);
      await sleep(wait, undefined, { signal }).catch(() => {});
    }
  }

  async #watch(client: DistributionClient, onSign: () => void): Promise<void> {
    const { modelChecksum, worker, silenceMs = SILENCE } = this.#options;
    const resumed = this.#revision;
    const sequence = new WatchSequence(resumed);
    const request = { modelChecksum, worker, ...(resumed === undefined ? {} : { resumeRevision: resumed }) };
    const { signal } = this.#closing;
    const messages = client.watch(request, { signal, timeoutMs: STREAM_LIFE })[Symbol.asyncIterator]();
    try {
      for (;;) {
        const next = await beforeSilence(messages.next(), silenceMs);
        if (next.done) return;
        await this.#take(sequence, next.value);
        onSign();
      }
    } finally {
      // Not awaited: a reader that waits for its next message cannot be told to stop before that comes.
      void messages.return?.().catch(() => {});
      this.#connection[Symbol.dispose]();
    }
  }

  async #take(sequence: WatchSequence, message: WatchResponse): Promise<void> {
    const taken = sequence.take(message);
    this.#events.onContact();
    if (taken.kind === "part") return;
    if (taken.kind === "update") {
      await this.#events.onUpdate(taken.update);
      this.#revision = taken.update.revision;
    } else {
      await this.#events.onBookmark(taken.revision);
      this.#revision = taken.revision;
    }
  }
}

/** @throws Error when it takes longer */
async function beforeSilence<T>(something: Promise<T>, milliseconds: number): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const silence = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not a word for ${milliseconds} ms`)), milliseconds);
  });
  something.catch(() => {});
  try {
    return await Promise.race([something, silence]);
  } finally {
    clearTimeout(timer);
  }
}
