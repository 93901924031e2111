import type { SlotCache } from "../prefix/prefix-reuse.ts";
import type { Swap } from "../scheduler/index.ts";
import type { EngineJob } from "./engine-job.ts";

/** Positions kept as one piece: few enough that little of the last piece is wasted. */
export const SWAP_BLOCK_TOKENS = 64;

export interface SwapFigures {
  /** What is kept now. */
  readonly bytes: number;
  readonly capacityBytes: number;
  /** Times that a job gave its slot up, since the start. */
  readonly preemptions: number;
}

interface Kept {
  readonly positions: number;
  readonly blocks: readonly Float32Array[];
}

/**
 * Keys and values of jobs that gave their slots up. They are copied out and later back, bit for bit, so a job writes the
 * same tokens as if it had never stopped. Bounded to the byte; takes memory as it fills, and uses it again.
 */
export class SwapSpace implements Swap<EngineJob> {
  readonly #cache: SlotCache;
  readonly #blockElements: number;
  /** Most blocks. */
  readonly #capacity: number;
  readonly #kept = new Map<string, Kept>();
  readonly #free: Float32Array[] = [];
  #made = 0;
  #preemptions = 0;

  constructor(cache: SlotCache, bytes: number) {
    this.#cache = cache;
    this.#blockElements = SWAP_BLOCK_TOKENS * cache.cachedElements;
    this.#capacity = Math.floor(bytes / this.#blockBytes);
  }

  out(job: EngineJob, slot: number, positions: number): boolean {
    const count = Math.ceil(positions / SWAP_BLOCK_TOKENS);
    if (this.#capacity === 0 || count > this.#capacity - this.#made + this.#free.length) return false;
    const kept = { positions, blocks: Array.from({ length: count }, () => this.#block()) };
    for (const { start, part } of this.#parts(kept)) this.#cache.readCache(slot, start, part);
    this.#kept.set(job.id, kept);
    this.#preemptions++;
    // What it wears is others' to use meanwhile.
    job.worn.release();
    job.preempted?.();
    return true;
  }

  in(job: EngineJob, slot: number): void {
    const kept = this.#kept.get(job.id);
    if (kept === undefined) throw new Error(`job ${job.id} did not give a slot up`);
    for (const { start, part } of this.#parts(kept)) this.#cache.writeCache(slot, start, part);
    this.drop(job);
    job.resumed?.();
  }

  drop(job: EngineJob): void {
    this.#free.push(...(this.#kept.get(job.id)?.blocks ?? []));
    this.#kept.delete(job.id);
  }

  has(job: EngineJob): boolean {
    return this.#kept.has(job.id);
  }

  figures(): SwapFigures {
    return {
      bytes: (this.#made - this.#free.length) * this.#blockBytes,
      capacityBytes: this.#capacity * this.#blockBytes,
      preemptions: this.#preemptions,
    };
  }

  get #blockBytes(): number {
    return this.#blockElements * Float32Array.BYTES_PER_ELEMENT;
  }

  #block(): Float32Array {
    const free = this.#free.pop();
    if (free !== undefined) return free;
    this.#made++;
    return new Float32Array(this.#blockElements);
  }

  /** The last block is used as far as there are positions: a slot ends with the context. */
  *#parts({ positions, blocks }: Kept): Iterable<{ readonly start: number; readonly part: Float32Array }> {
    for (const [index, block] of blocks.entries()) {
      const start = index * SWAP_BLOCK_TOKENS;
      const length = Math.min(SWAP_BLOCK_TOKENS, positions - start);
      yield { start, part: block.subarray(0, length * this.#cache.cachedElements) };
    }
  }
}
