import { createHash } from "node:crypto";
import type { ChainHead } from "./chain.ts";

// A Merkle tree as RFC 6962 section 2.1 defines it: leaves and inner nodes are hashed under different prefixes, so that
// neither can stand for the other, and a node without a sibling moves up as it is.

const LEAF_PREFIX = Buffer.of(0);
const NODE_PREFIX = Buffer.of(1);
/** Keeps the leaves of this tree apart from those of any other tree that the same key might sign. */
const LEAF_DOMAIN = "persona-mesh.audit.head.v1";

/** sha256 of a chain's head, as a leaf. */
export function headLeaf({ tenant, chain, sequence, hash }: ChainHead): Buffer {
  const text = JSON.stringify([LEAF_DOMAIN, tenant, chain, String(sequence), hash]);
  return createHash("sha256").update(LEAF_PREFIX).update(text, "utf8").digest();
}

function nodeHash(left: Uint8Array, right: Uint8Array): Buffer {
  return createHash("sha256").update(NODE_PREFIX).update(left).update(right).digest();
}

/** Root of a tree without leaves. */
const EMPTY_ROOT = createHash("sha256").digest();

/** A tree that is kept: replacing or adding a leaf costs one hash a level. */
export class MerkleTree {
  /** `levels[0]` are the leaves, each further level has the nodes over two of the one below. */
  readonly #levels: Buffer[][] = [[]];

  /** @param leaves - from {@link headLeaf}, sha256[count] */
  constructor(leaves: Iterable<Buffer> = []) {
    this.#levels[0] = [...leaves];
    for (let level = 0; this.#at(level).length > 1; level++) {
      const above: Buffer[] = [];
      for (let index = 0; index < this.#at(level).length; index += 2) above.push(this.#over(level, index));
      this.#levels[level + 1] = above;
    }
  }

  get leafCount(): number {
    return this.#at(0).length;
  }

  get root(): Buffer {
    return this.#levels.at(-1)?.[0] ?? EMPTY_ROOT;
  }

  /**
   * Replace a leaf, or add one behind the last.
   *
   * @throws RangeError where that would leave a gap
   */
  set(index: number, leaf: Buffer): void {
    requireIndex(index, this.leafCount + 1);
    this.#at(0)[index] = leaf;
    let at = index;
    for (let level = 0; this.#at(level).length > 1; level++) {
      const above = at >> 1;
      this.#levels[level + 1] ??= [];
      this.#at(level + 1)[above] = this.#over(level, above << 1);
      at = above;
    }
  }

  /** Proof that the leaf at `index` is in the tree: its siblings, from the leaf up. */
  path(index: number): Buffer[] {
    requireIndex(index, this.leafCount);
    const siblings: Buffer[] = [];
    for (let level = 0, at = index; this.#at(level).length > 1; level++, at >>= 1) {
      const sibling = this.#at(level)[at ^ 1];
      if (sibling !== undefined) siblings.push(sibling);
    }
    return siblings;
  }

  /** The node over `left` and its right neighbour, where it has one. */
  #over(level: number, left: number): Buffer {
    const nodes = this.#at(level);
    const right = nodes[left + 1];
    return right === undefined ? (nodes[left] as Buffer) : nodeHash(nodes[left] as Buffer, right);
  }

  #at(level: number): Buffer[] {
    return this.#levels[level] as Buffer[];
  }
}

function requireIndex(index: number, end: number): void {
  if (!Number.isSafeInteger(index) || index < 0 || index >= end) throw new RangeError(`no leaf ${index} of ${end}`);
}

/** Where a leaf is said to be. */
export interface LeafPosition {
  readonly leafIndex: number;
  readonly leafCount: number;
  /** Siblings from the leaf up, sha256[levels with a sibling]. */
  readonly path: readonly Uint8Array[];
}

/** The root over a leaf at a position; undefined where the path does not fit the position. */
export function rootOver(leaf: Uint8Array, { leafIndex, leafCount, path }: LeafPosition): Buffer | undefined {
  if (!Number.isSafeInteger(leafIndex) || leafIndex < 0 || leafIndex >= leafCount) return undefined;
  let node: Buffer = Buffer.from(leaf);
  let used = 0;
  for (let at = leafIndex, last = leafCount - 1; last > 0; at = Math.floor(at / 2), last = Math.floor(last / 2)) {
    // The last node of a level that has no right neighbour moves up as it is.
    if (at === last && at % 2 === 0) continue;
    const sibling = path[used++];
    if (sibling === undefined) return undefined;
    node = at % 2 === 1 ? nodeHash(sibling, node) : nodeHash(node, sibling);
  }
  return used === path.length ? node : undefined;
}
