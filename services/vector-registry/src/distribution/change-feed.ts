import { setTimeout as sleep } from "node:timers/promises";
import type { Change } from "@persona-mesh/protocol/registry";
import type { Logger } from "@persona-mesh/service";
import type { Kysely } from "kysely";
import type { WrittenChanges } from "../database/mutation.ts";
import type { Database } from "../database/schema.ts";
import type { ChangeListener } from "./change-listener.ts";
import { type Counter, readBatch, readCounter, type StoredChange, storedChange } from "./stored-changes.ts";

/** All changes of one revision that concern one model. */
export interface ReadChanges {
  readonly revision: bigint;
  readonly changes: readonly Change[];
}

/** What there is after a position. */
export type Reading =
  /** The changes up to `upTo`, oldest first: none where nothing concerned the model. */
  | { readonly kind: "changes"; readonly sets: readonly ReadChanges[]; readonly upTo: bigint }
  /** They are compacted away, or the position is of another history: only a snapshot helps. */
  | { readonly kind: "compacted" }
  /** The feed is closed. */
  | { readonly kind: "closed" };

/** Changes kept in memory for watchers that are up to date, which nearly all are. */
const KEPT_CHANGES = 4096;

/** How often the table is read without a hint: notifications are lost with their connection. Milliseconds. */
const POLL_INTERVAL = 250;

/** After a failed read. Milliseconds. */
const RETRY_INTERVAL = 500;

/**
 * The changes of the registry in the order of their revisions, for any number of watchers of this replica.
 *
 * Revisions are taken from one locked row, so they commit in their order: whatever is committed up to the counter is
 * there to be read, whichever replica wrote it. The feed reads each change once, or is offered it by the replica that wrote
 * it; a watcher holds nothing but its position and reads on from there when its client has room, so a slow one costs no
 * memory.
 */
export class ChangeFeed implements AsyncDisposable {
  readonly #db: Kysely<Database>;
  readonly #listener: ChangeListener;
  readonly #log: Logger;
  readonly #closing = new AbortController();
  /** Ascending; the newest {@link KEPT_CHANGES}. */
  #kept: StoredChange[] = [];
  /** Everything after it and up to the head is in `#kept`. */
  #keptFrom: bigint;
  #head: bigint;
  #history = 0;
  #waiting = new Set<() => void>();
  #reading: Promise<void> | undefined;

  /** @param db - connected as persona_watch */
  static async open(db: Kysely<Database>, listener: ChangeListener, log: Logger): Promise<ChangeFeed> {
    const feed = new ChangeFeed(db, listener, log, await readCounter(db));
    feed.#reading = feed.#follow();
    return feed;
  }

  private constructor(db: Kysely<Database>, listener: ChangeListener, log: Logger, { revision }: Counter) {
    this.#db = db;
    this.#listener = listener;
    this.#log = log;
    this.#head = revision;
    this.#keptFrom = revision;
  }

  /** The newest revision that this replica has read. */
  get head(): bigint {
    return this.#head;
  }

  /** Changes when the database's history is another one: positions of before mean nothing then. */
  get history(): number {
    return this.#history;
  }

  /** Whether a position that a worker brings along is of this history. */
  async knows(position: bigint): Promise<boolean> {
    if (position <= this.#head) return true;
    const { revision } = await readCounter(this.#db);
    return position <= revision;
  }

  /** Resolves when there is something after `position`, the time is up, the signal fires or the feed closes. */
  async wait(position: bigint, milliseconds: number, signal: AbortSignal): Promise<void> {
    if (this.#head > position || this.#closing.signal.aborted || signal.aborted) return;
    await new Promise<void>((resolve) => {
      const done = () => {
        clearTimeout(timer);
        signal.removeEventListener("abort", done);
        this.#waiting.delete(done);
        resolve();
      };
      const timer = setTimeout(done, milliseconds);
      signal.addEventListener("abort", done, { once: true });
      this.#waiting.add(done);
    });
  }

  /** What concerns a model after `position`, up to the head or a batch further. */
  async read(modelChecksum: string, position: bigint): Promise<Reading> {
    if (this.#closing.signal.aborted) return { kind: "closed" };
    // A snapshot may be newer than what the feed has read.
    if (position >= this.#head) return { kind: "changes", sets: [], upTo: this.#head };
    if (position >= this.#keptFrom) {
      const upTo = this.#head;
      return { kind: "changes", sets: setsFor(modelChecksum, after(this.#kept, position)), upTo };
    }
    return this.#readOld(modelChecksum, position);
  }

  /**
   * Take over what this replica has committed, without a look at the table: watchers hear of it at once. Where revisions before
   * it are not read yet, it is read with them.
   */
  offer({ revision, changes }: WrittenChanges): void {
    if (revision !== this.#head + 1n || this.#closing.signal.aborted) return;
    this.#append(
      changes.map(({ modelChecksum, body }) => storedChange({ revision, model_checksum: modelChecksum, body })),
      revision,
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort();
    this.#wake();
    await this.#reading;
  }

  /** Read on for ever: when told, and from time to time. */
  async #follow(): Promise<void> {
    const { signal } = this.#closing;
    while (!signal.aborted) {
      try {
        await this.#readNew();
        await this.#listener.next(POLL_INTERVAL, signal, (told) => this.#isNews(told));
      } catch (error) {
        if (signal.aborted) return;
        this.#log.warn({ err: error }, "changes cannot be read; trying again");
        await sleep(RETRY_INTERVAL, undefined, { signal, ref: false }).catch(() => {});
      }
    }
  }

  /** Whether a notification tells of what is not here yet: that of a change that was offered does not. */
  #isNews(told: string): boolean {
    return !/^\d{1,19}$/.test(told) || BigInt(told) > this.#head;
  }

  async #readNew(): Promise<void> {
    const head = this.#head;
    const { revision } = await readCounter(this.#db);
    if (revision < head) {
      // Another history: a database restored from a backup. Every watcher starts over.
      this.#history++;
      this.#log.error({ was: head, is: revision }, "the database's revision went backwards");
      this.#kept = [];
      this.#head = revision;
      this.#keptFrom = revision;
      this.#wake();
      return;
    }
    while (this.#head < revision) {
      const { rows, upTo } = await readBatch(this.#db, this.#head, revision);
      this.#append(rows, upTo);
    }
  }

  /** @param changes - all there are up to `upTo`; those that were offered while they were read are here already */
  #append(changes: readonly StoredChange[], upTo: bigint): void {
    if (upTo <= this.#head) return;
    for (const change of changes) if (change.revision > this.#head) this.#kept.push(change);
    if (this.#kept.length > KEPT_CHANGES) this.#forgetOldest();
    this.#head = upTo;
    this.#wake();
  }

  #forgetOldest(): void {
    const last = this.#kept[this.#kept.length - KEPT_CHANGES - 1] as StoredChange;
    // Never half a revision.
    this.#kept = after(this.#kept, last.revision);
    this.#keptFrom = last.revision;
  }

  async #readOld(modelChecksum: string, position: bigint): Promise<Reading> {
    // One snapshot: what is compacted meanwhile is still seen by it.
    return this.#db
      .transaction()
      .setAccessMode("read only")
      .setIsolationLevel("repeatable read")
      .execute(async (tx) => {
        const { revision, compacted } = await readCounter(tx);
        if (position < compacted || position > revision) return { kind: "compacted" };
        const { rows, upTo } = await readBatch(tx, position, revision);
        return { kind: "changes", sets: setsFor(modelChecksum, rows), upTo };
      });
  }

  #wake(): void {
    for (const done of [...this.#waiting]) done();
  }
}

/** The part of an ascending list after a revision. */
function after(list: readonly StoredChange[], revision: bigint): StoredChange[] {
  let low = 0;
  let high = list.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((list[middle] as StoredChange).revision > revision) high = middle;
    else low = middle + 1;
  }
  return list.slice(low);
}

function setsFor(modelChecksum: string, stored: readonly StoredChange[]): ReadChanges[] {
  const concerned = stored.filter((row) => row.modelChecksum === null || row.modelChecksum === modelChecksum);
  return [...Map.groupBy(concerned, ({ revision }) => revision)].map(([revision, rows]) => ({
    revision,
    changes: rows.map(({ change }) => forModel(change, modelChecksum)),
  }));
}

/** A change as the workers of one model get it: an active persona of another model is none of theirs. */
export function forModel(change: Change, modelChecksum: string): Change {
  if (change.state.case !== "tenantState") return change;
  const { active, ...state } = change.state.value;
  if (active === undefined || active.modelChecksum === modelChecksum) return change;
  return { ...change, state: { case: "tenantState", value: state } };
}
