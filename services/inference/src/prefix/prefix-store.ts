/**
 * Keys and values of chunks by tenant and key. Bounded to the byte; takes memory as it fills. When it is full, the tenant that has
 * most of it makes room, with what it used longest ago: a flood of one takes nothing from who has less.
 */
export class PrefixStore {
  /** Most chunks. */
  readonly capacity: number;
  readonly #chunkElements: number;
  /** Of each tenant that has any; the least recently used comes first. */
  readonly #chunks = new Map<string, Map<string, Float32Array>>();
  #size = 0;
  #evictions = 0;

  /** @param chunkElements - float32 values of one chunk */
  constructor(capacity: number, chunkElements: number) {
    this.capacity = capacity;
    this.#chunkElements = chunkElements;
  }

  get size(): number {
    return this.#size;
  }

  get evictions(): number {
    return this.#evictions;
  }

  has(tenant: string, key: string): boolean {
    return this.get(tenant, key) !== undefined;
  }

  /** What is kept under a key; belongs to the store. */
  get(tenant: string, key: string): Float32Array | undefined {
    return this.#chunks.get(tenant)?.get(key);
  }

  /**
   * Let `fill` write a chunk under a key that is not there. What makes room gives its memory.
   *
   * @param chain - what comes before it: rather than one of those, nothing makes room, and the chunk is not kept
   */
  add(tenant: string, key: string, chain: readonly string[], fill: (values: Float32Array) => void): void {
    let values: Float32Array | undefined;
    if (this.#size >= this.capacity) {
      values = this.#evict(tenant, chain);
      if (values === undefined) return;
    }
    values ??= new Float32Array(this.#chunkElements);
    fill(values);
    const own = this.#chunks.get(tenant) ?? new Map<string, Float32Array>();
    this.#chunks.set(tenant, own.set(key, values));
    this.#size++;
  }

  /**
   * A chain of chunks was used: its last chunk first to go, its first one last. Without its beginning the rest of a
   * chain could never be found.
   */
  touch(tenant: string, keys: readonly string[]): void {
    const own = this.#chunks.get(tenant);
    for (const key of keys.toReversed()) {
      const values = own?.get(key);
      if (values === undefined) continue;
      own?.delete(key);
      own?.set(key, values);
    }
  }

  /** @param tenant - who wants room: of tenants that have as much, it makes it itself */
  #evict(tenant: string, chain: readonly string[]): Float32Array | undefined {
    let most = tenant;
    for (const [other, { size }] of this.#chunks) if (size > (this.#chunks.get(most)?.size ?? 0)) most = other;
    const chunks = this.#chunks.get(most);
    const [oldest] = chunks ?? [];
    if (chunks === undefined || oldest === undefined || (most === tenant && chain.includes(oldest[0])))
      return undefined;
    chunks.delete(oldest[0]);
    if (chunks.size === 0) this.#chunks.delete(most);
    this.#size--;
    this.#evictions++;
    return oldest[1];
  }
}
