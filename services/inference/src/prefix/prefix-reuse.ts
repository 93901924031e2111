import type { EngineJob } from "../engine/engine-job.ts";
import type { PrefillStep } from "../scheduler/index.ts";
import { emptyPrefixKey, longerPrefixKey, steeringKey } from "./chunk-key.ts";
import { PrefixStore } from "./prefix-store.ts";

export interface PrefixFigures {
  /** What the chunks that are kept take. */
  readonly bytes: number;
  readonly capacityBytes: number;
  readonly chunks: number;
  /** Jobs whose prompts were looked up. */
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

/** The prefix that is in a slot. */
interface Chain {
  readonly job: EngineJob;
  /** One per chunk. */
  readonly keys: string[];
  /** Tokens that were there already. */
  found: number;
}

export interface PrefixReuseOptions {
  readonly chunkTokens: number;
  /** Memory for chunks; what is not enough for one keeps none. */
  readonly bytes: number;
  /**
   * Copied between two steps, if not a little more: running streams wait for it.
   *
   * @default some 10 ms
   */
  readonly mostCopiedBytes?: number;
}

const MOST_COPIED_BYTES = 64 << 20;

/**
 * Keeps keys and values of prompts' whole chunks, and gives them to later prompts of the same tenant that begin alike and
 * are steered alike there.
 *
 * A chunk is computed the same way every time (fixed boundaries, one row), so a copy is what would have been computed, bit
 * for bit. Copies are made between steps: into a slot in place of a chunk, out of it after one.
 */
export class PrefixReuse {
  readonly #cache: SlotCache;
  readonly #chunkTokens: number;
  readonly #chunkBytes: number;
  readonly #mostCopiedBytes: number;
  readonly #store: PrefixStore;
  readonly #chains = new Map<number, Chain>();
  #lookups = 0;
  #hits = 0;
  #tokensSaved = 0;

  constructor(cache: SlotCache, options: PrefixReuseOptions) {
    const { chunkTokens, bytes, mostCopiedBytes = MOST_COPIED_BYTES } = options;
    const elements = chunkTokens * cache.cachedElements;
    this.#mostCopiedBytes = mostCopiedBytes;
    this.#cache = cache;
    this.#chunkTokens = chunkTokens;
    this.#chunkBytes = elements * Float32Array.BYTES_PER_ELEMENT;
    this.#store = new PrefixStore(Math.floor(bytes / this.#chunkBytes), elements);
  }

  /**
   * In place of computing a chunk: copy what is there of it, and of those after it. The job wears what it would be computed
   * with.
   *
   * @returns positions before it are in the slot: the step's start where nothing was found, else the end of a whole chunk,
   * never with the last token, whose hidden state the first token is sampled from
   */
  fill({ slot, job, start, phase, isLast, repeats }: PrefillStep<EngineJob>): number {
    if (start === 0) this.#begin(slot, job);
    const chain = this.#chainOf(slot, job, start);
    if (chain === undefined || repeats || isLast || phase !== "prompt") return start;
    let end = start;
    for (const before = chain.keys.length; this.#isReusable(job, end + this.#chunkTokens); ) {
      const key = this.#nextKey(job, chain.keys);
      const values = this.#store.get(job.tenant, key);
      if (values === undefined) break;
      this.#cache.writeCache(slot, end, values);
      chain.keys.push(key);
      end += this.#chunkTokens;
      // A job that reads may want positions of the next one, and running streams wait for all of them.
      if (job.kind === "prefill" || (chain.keys.length - before) * this.#chunkBytes >= this.#mostCopiedBytes) break;
    }
    if (end > start) {
      this.#store.touch(job.tenant, chain.keys);
      if (start === 0) this.#hits++;
      this.#tokensSaved += end - start;
      chain.found += end - start;
      job.prefixFound?.({ cachedTokens: chain.found });
    }
    return end;
  }

  /** A chunk has run with what its job wears now: keep it if it is a whole one of the prompt. */
  keep({ slot, job, start, end, phase, repeats }: PrefillStep<EngineJob>): void {
    const chain = this.#chainOf(slot, job, start);
    if (chain === undefined || repeats || phase !== "prompt" || end - start < this.#chunkTokens) return;
    const { keys } = chain;
    const parent = keys.at(-1);
    const key = this.#nextKey(job, keys);
    // Without what comes before it, nobody would find it.
    const { tenant } = job;
    if (!this.#store.has(tenant, key) && (parent === undefined || this.#store.has(tenant, parent))) {
      this.#store.add(tenant, key, keys, (values) => this.#cache.readCache(slot, start, values));
    }
    keys.push(key);
    this.#store.touch(tenant, keys);
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

  #begin(slot: number, job: EngineJob): void {
    this.#chains.delete(slot);
    if (job.reusePrefix === false || this.#store.capacity === 0) return;
    this.#chains.set(slot, { job, keys: [], found: 0 });
    this.#lookups++;
  }

  /** The chain in a slot, if it is the job's and whole up to `start`. */
  #chainOf(slot: number, job: EngineJob, start: number): Chain | undefined {
    const chain = this.#chains.get(slot);
    return chain?.job === job && chain.keys.length * this.#chunkTokens === start ? chain : undefined;
  }

  /** Whether what is left behind `end` is computed as if nothing had been found: some of it, and not one token alone. */
  #isReusable({ tokens, promptTokens = tokens, follower }: EngineJob, end: number): boolean {
    const known = Math.min(promptTokens, follower?.available ?? tokens);
    const left = known - end;
    return left > 1 || (left === 0 && known < tokens);
  }

  #nextKey(job: EngineJob, keys: readonly string[]): string {
    const start = keys.length * this.#chunkTokens;
    const tokens = job.prompt.subarray(start, start + this.#chunkTokens);
    return longerPrefixKey(keys.at(-1) ?? emptyPrefixKey(job.tenant), tokens, steeringKey(job.worn.steering, "prompt"));
  }
}
