import { setTimeout as sleep } from "node:timers/promises";
import type { Logger } from "@persona-mesh/service";
import { decodeVector, type VectorVersion, versionDigest } from "@persona-mesh/steering";
import { Backoff } from "./backoff.ts";
import type { LocalCache } from "./cache/local-cache.ts";
import { ProblemError } from "./problem.ts";
import type { RegistryConnection } from "./registry-connection.ts";

/** A version that some tenant's persona needs. */
export interface NeededVersion {
  readonly tenant: string;
  readonly digest: string;
}

export interface FetchOptions {
  readonly modelChecksum: string;
  readonly worker: string;
  /** How long versions are waited for before their personas are kept out for now. @default 10 s */
  readonly patienceMs?: number;
}

/** By contract. */
const MAX_KEYS = 256;

/** Decoded versions in memory: what is activated next was mostly worn before. Bytes of their files. */
const MEMORY_BYTES = 64 * 1024 * 1024;

const PATIENCE = 10_000;

interface Decoded {
  readonly version: VectorVersion;
  readonly bytes: number;
}

/**
 * Versions by their digest: from memory, from the disk, from the registry. Whatever comes is what its digest says, or it does
 * not come.
 */
export class VersionContents {
  readonly #cache: LocalCache;
  readonly #connection: RegistryConnection;
  readonly #options: FetchOptions;
  readonly #log: Logger;
  readonly #signal: AbortSignal;
  /** The first was used longest ago. */
  readonly #memory = new Map<string, Decoded>();
  #memoryBytes = 0;
  /** What is wrong with versions that were asked for and did not come: nobody waits for them again but {@link retry}. */
  readonly #bad = new Map<string, ProblemError>();

  constructor(
    cache: LocalCache,
    connection: RegistryConnection,
    options: FetchOptions,
    { log, signal }: { readonly log: Logger; readonly signal: AbortSignal },
  ) {
    this.#cache = cache;
    this.#connection = connection;
    this.#options = options;
    this.#log = log;
    this.#signal = signal;
  }

  /**
   * Fetch what is not here, all of it together; what does not come is kept out by {@link load}.
   *
   * @param inUse - digests that the disk must not lose
   */
  async prefetch(needed: readonly NeededVersion[], inUse: () => ReadonlySet<string>): Promise<void> {
    const missing = new Map<string, NeededVersion>();
    for (const each of needed) {
      const { digest } = each;
      if (!this.#memory.has(digest) && !this.#cache.versions.has(digest) && !this.#bad.has(digest)) {
        missing.set(digest, each);
      }
    }
    if (missing.size > 0) await this.#fetch(missing, inUse);
  }

  /** Ask once more for what did not come. */
  async retry(needed: readonly NeededVersion[], inUse: () => ReadonlySet<string>): Promise<void> {
    this.forgive();
    await this.prefetch(needed, inUse);
  }

  /** Whatever did not come is asked for again when it is needed. */
  forgive(): void {
    this.#bad.clear();
  }

  /** From memory: undefined where it is not there. */
  peek(digest: string): VectorVersion | undefined {
    const decoded = this.#memory.get(digest);
    if (decoded === undefined) return undefined;
    this.#memory.delete(digest);
    this.#memory.set(digest, decoded);
    return decoded.version;
  }

  /**
   * @param mayFetch - ask the registry for what the disk has lost meanwhile
   * @throws ProblemError VERSION_BYTES_MISSING, VERSION_DIGEST_MISMATCH, VECTOR_FORMAT
   */
  async load(needed: NeededVersion, mayFetch: boolean, inUse: () => ReadonlySet<string>): Promise<VectorVersion> {
    const { digest } = needed;
    const known = this.peek(digest);
    if (known !== undefined) return known;
    const bytes = await this.#cache.versions.read(digest);
    if (bytes !== undefined) return this.#remember(digest, bytes);
    if (mayFetch && !this.#bad.has(digest)) await this.#fetch(new Map([[digest, needed]]), inUse);
    const fetched = this.peek(digest);
    if (fetched !== undefined) return fetched;
    throw this.#bad.get(digest) ?? missing(digest, "it is not in the cache");
  }

  /** Until all came, or patience ends; `wanted` is used up. */
  async #fetch(wanted: Map<string, NeededVersion>, inUse: () => ReadonlySet<string>): Promise<void> {
    const { patienceMs = PATIENCE } = this.#options;
    const end = performance.now() + patienceMs;
    const backoff = new Backoff({ first: 100, most: 2_000 });
    let failure: unknown;
    while (wanted.size > 0 && !this.#signal.aborted) {
      const left = end - performance.now();
      if (left <= 0) break;
      try {
        await this.#fetchSome(wanted, inUse, left);
      } catch (error) {
        failure = error;
        this.#log.debug({ err: error, versions: wanted.size }, "versions did not come; asking again");
        const wait = Math.min(backoff.next(), Math.max(0, end - performance.now()));
        await sleep(wait, undefined, { signal: this.#signal }).catch(() => {});
      }
    }
    for (const digest of wanted.keys()) {
      this.#bad.set(
        digest,
        missing(digest, `the registry did not give them: ${(failure as Error | undefined)?.message}`),
      );
    }
  }

  /** One call. What has come, good or bad, leaves `wanted`. */
  async #fetchSome(
    wanted: Map<string, NeededVersion>,
    inUse: () => ReadonlySet<string>,
    timeoutMs: number,
  ): Promise<void> {
    const { modelChecksum, worker } = this.#options;
    const versions = [...wanted.values()].slice(0, MAX_KEYS);
    const request = { modelChecksum, worker, versions };
    const responses = this.#connection.client.fetchVersions(request, { signal: this.#signal, timeoutMs });
    for await (const { key, content } of responses) {
      const digest = key?.digest ?? "";
      if (!wanted.delete(digest)) continue;
      if (content.length === 0) {
        this.#bad.set(digest, missing(digest, "the registry has none, or it is revoked"));
      } else if (versionDigest(content) !== digest) {
        const message = `the registry gave bytes of ${versionDigest(content)} for version ${digest}`;
        this.#log.error({ digest }, message);
        this.#bad.set(digest, new ProblemError("VERSION_DIGEST_MISMATCH", message));
      } else {
        try {
          this.#remember(digest, content);
        } catch (error) {
          this.#bad.set(digest, error as ProblemError);
          continue;
        }
        await this.#cache.keepVersion(digest, content, inUse());
      }
    }
    for (const { digest } of versions) {
      if (wanted.delete(digest)) this.#bad.set(digest, missing(digest, "the registry left it out"));
    }
  }

  /** @throws ProblemError VECTOR_FORMAT */
  #remember(digest: string, bytes: Uint8Array): VectorVersion {
    let version: VectorVersion;
    try {
      version = decodeVector(bytes);
    } catch (error) {
      throw new ProblemError("VECTOR_FORMAT", `version ${digest}: ${(error as Error).message}`);
    }
    this.#memory.set(digest, { version, bytes: bytes.length });
    this.#memoryBytes += bytes.length;
    for (const [oldest, { bytes: size }] of this.#memory) {
      if (this.#memoryBytes <= MEMORY_BYTES || oldest === digest) break;
      this.#memory.delete(oldest);
      this.#memoryBytes -= size;
    }
    return version;
  }
}

function missing(digest: string, why: string): ProblemError {
  return new ProblemError("VERSION_BYTES_MISSING", `the bytes of version ${digest} are missing: ${why}`);
}
