import { decodeVector, type VectorVersion } from "@persona-mesh/steering";
import type { Tx } from "../database/tx.ts";

/**
 * Decoded versions that were composed lately: personas of a tenant share a few vectors, and an alias that moves composes
 * many personas of one version.
 *
 * By digest alone: who asks has found the digest among the tenant's own versions, in the same transaction.
 */
export class DecodedVersions {
  readonly #maxBytes: number;
  /** Least recently used first. */
  readonly #kept = new Map<string, VectorVersion>();
  #bytes = 0;

  /** @param maxBytes - of all directions that are kept */
  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /** Versions by digest. Reading bytes to compose them is the registry's own affair and no read by the caller. */
  async read(db: Tx, tenant: string, digests: readonly string[]): Promise<ReadonlyMap<string, VectorVersion>> {
    const found = new Map<string, VectorVersion>();
    for (const digest of new Set(digests)) {
      const version = this.#kept.get(digest) ?? (await load(db, tenant, digest));
      found.set(digest, version);
      this.#keep(digest, version);
    }
    return found;
  }

  #keep(digest: string, version: VectorVersion): void {
    if (this.#kept.delete(digest)) this.#bytes -= bytesOf(version);
    this.#kept.set(digest, version);
    this.#bytes += bytesOf(version);
    for (const [oldest, dropped] of this.#kept) {
      if (this.#bytes <= this.#maxBytes) return;
      this.#kept.delete(oldest);
      this.#bytes -= bytesOf(dropped);
    }
  }
}

async function load(db: Tx, tenant: string, digest: string): Promise<VectorVersion> {
  const { bytes } = await db
    .selectFrom("contents")
    .select("bytes")
    .where("tenant", "=", tenant)
    .where("digest", "=", digest)
    .executeTakeFirstOrThrow();
  return decodeVector(bytes);
}

function bytesOf({ manifest }: VectorVersion): number {
  return manifest.layers.length * manifest.hiddenSize * Float32Array.BYTES_PER_ELEMENT;
}
