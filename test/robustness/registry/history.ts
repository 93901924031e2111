/** What became of a call. */
export type Outcome =
  /** Acknowledged: it must be there for ever. */
  | { readonly kind: "ok" }
  /** Refused at the first try: it must have had no effect. */
  | { readonly kind: "refused"; readonly reason: string }
  /** No answer, or one that says that nobody knows; or a refusal after such a try, which may still take effect. */
  | { readonly kind: "unknown"; readonly reason: string };

/** A write of one client, from its first try to its last answer. Times are milliseconds of one clock. */
export interface Write {
  readonly kind: "write";
  /** What was changed: an alias's name. */
  readonly key: string;
  /** The value written: a version's name; undefined where only an answer would have told. */
  readonly value: string | undefined;
  /** Order of the state that it was to replace, 0 for none: another state in between, and it must be refused. */
  readonly expected: bigint;
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

/** A call that changes something, as its client saw it end. */
export interface Request {
  readonly tenant: string;
  /** The call's name, as the audit has it. */
  readonly action: string;
  /** The same in every try. */
  readonly requestId: string;
  /** Of an acknowledged one: name of what must be there afterwards, with what tells it from others. */
  readonly what: string | undefined;
  readonly outcome: Outcome;
}

/** A read of vector bytes that was answered. */
export interface ContentRead {
  readonly tenant: string;
  /** Name of the version. */
  readonly version: string;
  /** Whether the bytes were those that the name stands for. */
  readonly isIntact: boolean;
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
