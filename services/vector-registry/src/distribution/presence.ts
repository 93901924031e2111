import type { Logger } from "@persona-mesh/service";
import { type Kysely, sql } from "kysely";
import type { Database } from "../database/schema.ts";

/** How long a worker counts as connected after the last sign of a replica that has its watch. Seconds. */
const CONNECTED_FOR = 15;

/** How often that is renewed. Milliseconds. */
const RENEW_INTERVAL = 5_000;

/** Which workers watch at this replica; written to the database, so that every replica can tell. */
export class Presence implements AsyncDisposable {
  readonly #db: Kysely<Database>;
  readonly #log: Logger;
  /** How many watches a worker has here: two for a moment, when it reconnects faster than the old one is noticed. */
  readonly #watches = new Map<string, { readonly worker: string; readonly modelChecksum: string; count: number }>();
  readonly #timer: NodeJS.Timeout;
  #writing: Promise<void> = Promise.resolve();

  /** @param db - connected as persona_watch */
  constructor(db: Kysely<Database>, log: Logger) {
    this.#db = db;
    this.#log = log;
    this.#timer = setInterval(() => this.#write([...this.#watches.values()], true), RENEW_INTERVAL);
    this.#timer.unref();
  }

  /** Workers that watch here now. */
  get watchers(): number {
    return this.#watches.size;
  }

  /** Until it is disposed of, the worker is connected. */
  connect(worker: string, modelChecksum: string): Disposable {
    const key = keyOf({ worker, modelChecksum });
    const watch = this.#watches.get(key) ?? { worker, modelChecksum, count: 0 };
    watch.count++;
    this.#watches.set(key, watch);
    this.#write([watch], true);
    return {
      [Symbol.dispose]: () => {
        if (--watch.count > 0) return;
        this.#watches.delete(key);
        this.#write([watch], false);
      },
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#timer);
    await this.#writing;
  }

  /** One after the other; a failure is only logged, for it says no more than that the picture is old. */
  #write(watches: readonly { readonly worker: string; readonly modelChecksum: string }[], connected: boolean): void {
    if (watches.length === 0) return;
    const until = connected ? sql<Date>`now() + make_interval(secs => ${CONNECTED_FOR})` : null;
    // In one order everywhere: replicas that write the same rows cannot wait for each other.
    const inOrder = watches.toSorted((a, b) => (keyOf(a) < keyOf(b) ? -1 : 1));
    const rows = inOrder.map(({ worker, modelChecksum }) => ({
      worker,
      model_checksum: modelChecksum,
      state: "NOT_READY" as const,
      applied_revision: 0n,
      problems: "[]",
      connected_until: until,
    }));
    this.#writing = this.#writing.then(() =>
      this.#db
        .insertInto("workers")
        .values(rows)
        .onConflict((conflict) =>
          conflict.columns(["worker", "model_checksum"]).doUpdateSet({ connected_until: until }),
        )
        .execute()
        .then(
          () => {},
          (error: unknown) => this.#log.warn({ err: error }, "which workers are connected cannot be written down"),
        ),
    );
  }
}

function keyOf({ worker, modelChecksum }: { readonly worker: string; readonly modelChecksum: string }): string {
  return `${worker} ${modelChecksum}`;
}
