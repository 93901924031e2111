import { type AuditChainName, type ChainEntry, entryHash, NO_ENTRY } from "../chain.ts";
import type { BadEntry, EntryReason } from "./problem.ts";

/** What a verified root says of a chain: its newest entry at that time. */
export interface Checkpoint {
  readonly sequence: bigint;
  readonly hash: string;
  /** Number of the root. */
  readonly root: bigint;
}

/**
 * One chain, entry by entry: each is as its hash says, continues the one before, and is the one that the roots cover.
 * Stops at the first bad entry; {@link bad} is final after {@link end}.
 */
export class ChainCheck {
  readonly #chain: AuditChainName;
  /** In the order of their sequences; those with one sequence all hold. */
  readonly #checkpoints: readonly Checkpoint[];
  /** Of the checkpoint that comes next. */
  #nextCheckpoint = 0;
  #entries = 0n;
  #hash = NO_ENTRY;
  /** Up to here every entry is covered by a root. */
  #proven = 0n;
  #bad: BadEntry | undefined;
  /** Two neighbours do not fit, and which of them is the bad one shows at the next checkpoint. */
  #suspicion: BadEntry | undefined;

  constructor(chain: AuditChainName, checkpoints: readonly Checkpoint[]) {
    this.#chain = chain;
    this.#checkpoints = checkpoints.toSorted((a, b) => Number(a.sequence - b.sequence));
    this.#passCheckpoints();
  }

  /** Entries seen, good ones and bad ones. */
  get entries(): bigint {
    return this.#entries;
  }

  /** Entries from the first on that are as they were when a root was signed over them. */
  get proven(): bigint {
    return this.#bad === undefined || this.#bad.sequence > this.#proven ? this.#proven : this.#bad.sequence - 1n;
  }

  get bad(): BadEntry | undefined {
    return this.#bad;
  }

  next(entry: ChainEntry): void {
    this.#entries++;
    if (this.#bad !== undefined) return;
    this.#check(entry, this.#entries);
    this.#hash = entry.hash;
    this.#passCheckpoints();
  }

  /** No entry follows. */
  end(): void {
    this.#bad ??= this.#suspicion;
    const missing = this.#checkpoints[this.#nextCheckpoint];
    if (this.#bad !== undefined || missing === undefined) return;
    const { sequence, root } = missing;
    this.#blame(
      this.#entries + 1n,
      "ENTRY_MISSING",
      `the chain ends before it, and root ${root} covers entries to ${sequence}`,
    );
  }

  #check({ hash, payload, previousHash, sequence }: ChainEntry, place: bigint): void {
    if (sequence !== place) {
      this.#blame(
        place,
        sequence > place ? "ENTRY_MISSING" : "ENTRY_REPEATED",
        `entry ${sequence} stands in its place`,
      );
    } else if (entryHash(place, previousHash, payload) !== hash) {
      this.#blame(place, "ENTRY_CHANGED", "its content is not what its hash says");
    } else if (previousHash !== this.#hash) {
      const suspect = this.#badEntry(place, "ENTRY_UNLINKED", "it does not continue the entry before it");
      // What stands before it is as a root says, or is nothing: then it is this one.
      if (this.#suspicion !== undefined || place - 1n === this.#proven) this.#bad = this.#suspicion ?? suspect;
      else this.#suspicion = suspect;
    }
  }

  #passCheckpoints(): void {
    for (; this.#bad === undefined; this.#nextCheckpoint++) {
      const checkpoint = this.#checkpoints[this.#nextCheckpoint];
      if (checkpoint === undefined || checkpoint.sequence > this.#entries) return;
      this.#pass(checkpoint);
    }
  }

  #pass({ hash, root, sequence }: Checkpoint): void {
    const suspicion = this.#suspicion;
    const first = this.#proven + 1n;
    if (hash === this.#hash && suspicion === undefined) {
      this.#proven = sequence;
    } else if (hash === this.#hash && suspicion !== undefined) {
      // All from the suspect on is as it was signed: what it does not continue is what was changed.
      this.#blame(
        suspicion.sequence - 1n,
        "ENTRY_CHANGED",
        `the entries after it are what root ${root} covers, and do not continue it`,
      );
    } else if (suspicion !== undefined) {
      this.#bad = suspicion;
    } else {
      const range = first >= sequence ? "it is" : `entries ${first} to ${sequence} are`;
      this.#blame(first < sequence ? first : sequence, "ENTRY_CHANGED", `${range} not what root ${root} covers`);
    }
  }

  #blame(sequence: bigint, reason: EntryReason, why: string): void {
    // An earlier suspicion stands: what follows a break proves nothing against it.
    this.#bad =
      this.#suspicion !== undefined && this.#suspicion.sequence < sequence
        ? this.#suspicion
        : this.#badEntry(sequence, reason, why);
  }

  #badEntry(sequence: bigint, reason: EntryReason, why: string): BadEntry {
    return { reason, chain: this.#chain, sequence, message: `${this.#chain} entry ${sequence}: ${why}` };
  }
}
