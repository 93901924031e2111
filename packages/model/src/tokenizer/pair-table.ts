/** What a pair of tokens becomes, and when: pairs of lower rank are joined first. */
export interface Merge {
  readonly rank: number;
  readonly joined: number;
}

const EMPTY = -1;

/**
 * Merges by their two tokens. A hash table over integers with open addressing: a vocabulary has half a million merges, and
 * a map from strings takes ten times the memory.
 */
export class PairTable {
  /** Four for each place: left, right, rank, joined. */
  readonly #entries: Int32Array;
  readonly #mask: number;

  /** @param capacity - merges at most */
  constructor(capacity: number) {
    let places = 16;
    while (places < 2 * capacity) places *= 2;
    this.#mask = places - 1;
    this.#entries = new Int32Array(4 * places).fill(EMPTY);
  }

  /** A pair that is there already gets the new merge. */
  set(left: number, right: number, { rank, joined }: Merge): void {
    this.#entries.set([left, right, rank, joined], this.#find(left, right));
  }

  /** -1 for a pair that has no merge. */
  rank(left: number, right: number): number {
    return this.#entries[this.#find(left, right) + 2] as number;
  }

  /** -1 for a pair that has no merge. */
  joined(left: number, right: number): number {
    return this.#entries[this.#find(left, right) + 3] as number;
  }

  /** Where the entry of a pair is, or the empty one where it would be. */
  #find(left: number, right: number): number {
    const entries = this.#entries;
    let hash = Math.imul(left, 0x9e3779b1) ^ Math.imul(right, 0x85ebca6b);
    hash = Math.imul(hash ^ (hash >>> 15), 0x2c1b3c6d);
    let place = (hash ^ (hash >>> 13)) & this.#mask;
    for (;;) {
      const at = 4 * place;
      if (entries[at] === EMPTY || (entries[at] === left && entries[at + 1] === right)) return at;
      place = (place + 1) & this.#mask;
    }
  }
}
