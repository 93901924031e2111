/** What became of a call. */
export type Outcome =
  /** Acknowledged: it must be there for ever. */
  | { readonly kind: "ok" }
  /** Refused: it must have had no effect. */
  | { readonly kind: "refused"; readonly reason: string }
  /** No answer, or one that says that nobody knows. */
  | { readonly kind: "unknown"; readonly reason: string };

/** A write of one client, from its first try to its last answer. Times are milliseconds of one clock. */
export interface Write {
  readonly kind: "write";
  /** What was changed: an alias's name. */
  readonly key: string;
  /** The value written: a version's name; undefined where only an answer would have told. */
  readonly value: string | undefined;
  /** Order that the registry gave it, from its etag; undefined where no answer says. */
  readonly order: bigint | undefined;
  readonly invoked: number;
  readonly completed: number;
  readonly outcome: Outcome;
}

/** A read that was answered. */
export interface Read {
  readonly kind: "read";
  readonly key: string;
  /** Undefined where there was nothing yet. */
  readonly value: string | undefined;
  readonly order: bigint;
  readonly invoked: number;
  readonly completed: number;
}

export type Operation = Write | Read;

/** Something that was acknowledged and must be found afterwards. */
export interface Acknowledged {
  /** Name of what is there now, with what tells it from others: a version's name, an approval's, an entry of a history. */
  readonly what: string;
  readonly tenant: string;
  readonly action: string;
  /** Under which request; the audit must have it exactly once. */
  readonly requestId: string;
}

/** What a watcher was told, in the order in which it was told. */
export interface Watched {
  readonly watcher: string;
  readonly events: readonly WatchedEvent[];
}

export type WatchedEvent =
  /** Everything up to the revision. */
  | { readonly kind: "snapshot"; readonly revision: bigint }
  | { readonly kind: "changes"; readonly revision: bigint; readonly previous: bigint }
  | { readonly kind: "bookmark"; readonly revision: bigint };
