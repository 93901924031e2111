/** Keys and values of chunks by key, the least recently used out first. Bounded to the byte; takes memory as it fills. */
export class PrefixStore {
  /** Most chunks. */
  readonly capacity: number;
  readonly #chunkElements: number;
  /** Insertion order is the order of eviction. */
  readonly #chunks = new Map<string, Float32Array>();
  #evictions = 0;

  /** @param chunkElements - float32 values of one chunk */
  constructor(capacity: number, chunkElements: number) {
    this.capacity = capacity;
    this.#chunkElements = chunkElements;
  }

  get size(): number {
    return this.#chunks.size;
  }

  get evictions(): number {
    return this.#evictions;
  }

  has(key: string): boolean {
    return this.#chunks.has(key);
  }

  /** What is kept under a key; belongs to the store. */
  get(key: string): Float32Array | undefined {
    return this.#chunks.get(key);
  }

  /**
   * Let `fill` write a chunk under a key that is not there. What makes room gives its memory.
   *
   * @param chain - what comes before it: rather than one of those, nothing makes room, and the chunk is not kept
   */
  add(key: string, chain: readonly string[], fill: (values: Float32Array) => void): void {
    let values: Float32Array | undefined;
    if (this.#chunks.size >= this.capacity) {
      const [oldest] = this.#chunks;
      if (oldest === undefined || chain.includes(oldest[0])) return;
      this.#chunks.delete(oldest[0]);
      this.#evictions++;
      values = oldest[1];
    }
    values ??= new Float32Array(this.#chunkElements);
    fill(values);
    this.#chunks.set(key, values);
  }

  /**
   * A chain of chunks was used: its last chunk first to go, its first one last. Without its beginning the rest of a
   * chain could never be found.
   */
  touch(keys: readonly string[]): void {
    for (const key of keys.toReversed()) {
      const values = this.#chunks.get(key);
      if (values === undefined) continue;
      this.#chunks.delete(key);
      this.#chunks.set(key, values);
    }
  }
}
