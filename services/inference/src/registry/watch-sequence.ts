import type { Change, WatchResponse } from "@persona-mesh/protocol/registry";
import { RESOURCE_ID } from "@persona-mesh/service";
import type { Update } from "./picture.ts";

/** Changes of a snapshot that are held until its last part: far more than a registry of many thousand personas has. */
const MAX_SNAPSHOT_CHANGES = 1_000_000;

/** The stream broke its own rules: what it says is not taken over, and the watch starts again from a snapshot. */
export class WatchBroken extends Error {
  override readonly name = "WatchBroken";
}

/** What a message of the stream amounts to. */
export type Taken =
  | { readonly kind: "update"; readonly update: Update }
  /** Nothing changed up to here. */
  | { readonly kind: "bookmark"; readonly revision: bigint }
  /** More of it comes. */
  | { readonly kind: "part" };

/**
 * Reads the messages of one watch in their order and holds them to the contract: a snapshot is whole, changes leave no gap,
 * revisions never go back.
 */
export class WatchSequence {
  /** What this stream has told everything up to; undefined before the first snapshot. */
  #revision: bigint | undefined;
  #snapshot: { readonly revision: bigint; readonly changes: Change[] } | undefined;

  /** @param resumed - the revision that the watch was resumed from */
  constructor(resumed: bigint | undefined) {
    this.#revision = resumed;
  }

  /** @throws WatchBroken; nothing of the message is taken over then */
  take({ event }: WatchResponse): Taken {
    if (event.case === "snapshot") return this.#part(event.value);
    if (this.#snapshot !== undefined) throw new WatchBroken("another message came before the snapshot's last part");
    if (this.#revision === undefined) throw new WatchBroken("the stream did not begin with a snapshot");
    switch (event.case) {
      case "changes": {
        const { revision, previousRevision, changes } = event.value;
        if (previousRevision !== this.#revision) {
          throw new WatchBroken(
            `a gap: changes of revision ${revision} follow ${previousRevision}, and the stream was at ${this.#revision}`,
          );
        }
        if (revision <= previousRevision) throw new WatchBroken(`revision ${revision} follows ${previousRevision}`);
        changes.forEach(requireWellFormed);
        this.#revision = revision;
        return { kind: "update", update: { kind: "changes", revision, changes } };
      }
      case "bookmark": {
        const { revision } = event.value;
        if (revision < this.#revision) throw new WatchBroken(`a bookmark at ${revision} follows ${this.#revision}`);
        this.#revision = revision;
        return { kind: "bookmark", revision };
      }
      default:
        throw new WatchBroken("a message without an event that is known");
    }
  }

  #part(part: { readonly revision: bigint; readonly changes: readonly Change[]; readonly last: boolean }): Taken {
    const snapshot = this.#snapshot ?? { revision: part.revision, changes: [] };
    if (part.revision !== snapshot.revision) {
      throw new WatchBroken(`parts of the snapshots ${snapshot.revision} and ${part.revision} are mixed`);
    }
    if (snapshot.changes.length + part.changes.length > MAX_SNAPSHOT_CHANGES) {
      throw new WatchBroken(`a snapshot of more than ${MAX_SNAPSHOT_CHANGES} changes`);
    }
    part.changes.forEach(requireWellFormed);
    for (const change of part.changes) snapshot.changes.push(change);
    if (!part.last) {
      this.#snapshot = snapshot;
      return { kind: "part" };
    }
    this.#snapshot = undefined;
    this.#revision = snapshot.revision;
    return { kind: "update", update: { kind: "snapshot", ...snapshot } };
  }
}

/** What ends up in files and in names. */
function requireWellFormed({ tenant, state }: Change): void {
  if (!RESOURCE_ID.test(tenant)) throw new WatchBroken("a change of what is no tenant's id");
  if (state.case === "versionRevoked" && !/^[0-9a-f]{64}$/.test(state.value.digest)) {
    throw new WatchBroken("a revocation of what is no sha256");
  }
}
