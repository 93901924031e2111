import type { EngineJob } from "../engine/engine-job.ts";
import type { PrefillStep } from "../scheduler/index.ts";
import { emptyPrefixKey, longerPrefixKey, steeringKey } from "./chunk-key.ts";
import { PrefixStore } from "./prefix-store.ts";

export interface PrefixFigures {
  /** What the chunks that are kept take. */
  readonly bytes: number;
  readonly capacityBytes: number;
  readonly chunks: number;
  /** Jobs that asked. */
  readonly lookups: number;
  /** Jobs of which some tokens were there. */
  readonly hits: number;
  /** Tokens that were not computed again. */
  readonly tokensSaved: number;
  /** Chunks that made room for others. */
  readonly evictions: number;
}

/** The slots' keys and values, as a runtime has them. */
export interface SlotCache {
  readonly cachedElements: number;
  readCache(slot: number, start: number, into: Float32Array): void;
  writeCache(slot: number, start: number, from: Float32Array): void;
}

export interface PrefixReuseOptions {
  readonly chunkTokens: number;
  /** Memory for chunks; what is not enough for one keeps none. */
  readonly bytes: number;
}

/**
 * Keeps keys and values of prompts' whole chunks, and gives them to later prompts of the same tenant that begin alike and
 * are steered alike there.
 *
 * A chunk is computed the same way every time (fixed boundaries, one row), so a copy is what would have been computed, bit
 * for bit. Copies are made between steps: into a slot when its job is let in, out of it after each chunk.
 */
export class PrefixReuse {
  readonly #cache: SlotCache;
  readonly #chunkTokens: number;
  readonly #chunkBytes: number;
  readonly #store: PrefixStore;
  /** By slot: the keys of the prefix that is in it, one per chunk. */
  readonly #chains = new Map<number, { readonly job: EngineJob; readonly keys: string[] }>();
  #lookups = 0;
  #hits = 0;
  #tokensSaved = 0;

  constructor(cache: SlotCache, { chunkTokens, bytes }: PrefixReuseOptions) {
    const elements = chunkTokens * cache.cachedElements;
    this.#cache = cache;
    this.#chunkTokens = chunkTokens;
    this.#chunkBytes = elements * Float32Array.BYTES_PER_ELEMENT;
    this.#store = new PrefixStore(Math.floor(bytes / this.#chunkBytes), elements);
  }

  /**
   * Fill a slot with what is there of a job's prompt. The job wears what it will wear in its first step.
   *
   * @returns positions filled: whole chunks, and never the last token, whose hidden state the first token is sampled from
   */
  fill(slot: number, job: EngineJob): number {
    this.#chains.delete(slot);
    if (job.reusePrefix === false || this.#store.capacity === 0) return 0;
    const keys: string[] = [];
    this.#chains.set(slot, { job, keys });
    const { tokens, promptTokens = tokens, follower } = job;
    const known = Math.min(promptTokens, follower?.available ?? tokens);
    let most = Math.floor(known / this.#chunkTokens);
    // What is left is computed as it would be without a hit: something of a prompt always, and never one token alone.
    const isLeft = (left: number) => left > 1 || (left === 0 && known < tokens);
    while (most > 0 && !isLeft(known - most * this.#chunkTokens)) most--;
    for (let chunk = 0; chunk < most; chunk++) {
      const key = this.#nextKey(job, keys);
      const values = this.#store.get(key);
      if (values === undefined) break;
      this.#cache.writeCache(slot, chunk * this.#chunkTokens, values);
      keys.push(key);
    }
    this.#store.touch(keys);
    const present = keys.length * this.#chunkTokens;
    this.#lookups++;
    if (present > 0) this.#hits++;
    this.#tokensSaved += present;
    return present;
  }

  /** A chunk has run with what its job wears now: keep it if it is a whole one of the prompt. */
  keep({ slot, job, start, end, phase, repeats }: PrefillStep<EngineJob>): void {
    const chain = this.#chains.get(slot);
    if (chain?.job !== job || repeats || phase !== "prompt") return;
    const { keys } = chain;
    if (end - start < this.#chunkTokens || start !== keys.length * this.#chunkTokens) return;
    const parent = keys.at(-1);
    const key = this.#nextKey(job, keys);
    // Without what comes before it, nobody would find it.
    if (!this.#store.has(key) && (parent === undefined || this.#store.has(parent))) {
      this.#store.add(key, keys, (values) => this.#cache.readCache(slot, start, values));
    }
    keys.push(key);
    this.#store.touch(keys);
  }

  figures(): PrefixFigures {
    return {
      bytes: this.#store.size * this.#chunkBytes,
      capacityBytes: this.#store.capacity * this.#chunkBytes,
      chunks: this.#store.size,
      lookups: this.#lookups,
      hits: this.#hits,
      tokensSaved: this.#tokensSaved,
      evictions: this.#store.evictions,
    };
  }

  #nextKey(job: EngineJob, keys: readonly string[]): string {
    const start = keys.length * this.#chunkTokens;
    const tokens = job.prompt.subarray(start, start + this.#chunkTokens);
    return longerPrefixKey(keys.at(-1) ?? emptyPrefixKey(job.tenant), tokens, steeringKey(job.worn.steering, "prompt"));
  }
}
