import { shortDigest } from "./short-digest.ts";

/** Versions with figures of their own at once. A label for every version that ever spoke would grow for ever. */
const MAX_VERSIONS = 64;

/** How far a reply moves the mean: about the last 50 replies count. */
const WEIGHT = 0.04;

interface VersionFigures {
  mean: number;
  replies: number;
}

/** Coherence by vector version, of the versions that spoke last. */
export class RecentVersions {
  /** By the start of the digest; the one that spoke longest ago comes first. */
  readonly #versions = new Map<string, VersionFigures>();

  /** @param coherence - of one reply that wore these versions, 0 to 1 */
  add(digests: readonly string[], coherence: number): void {
    for (const version of new Set(digests.map(shortDigest))) {
      const figures = this.#versions.get(version) ?? { mean: coherence, replies: 0 };
      figures.mean += WEIGHT * (coherence - figures.mean);
      figures.replies++;
      this.#versions.delete(version);
      this.#versions.set(version, figures);
    }
    for (const version of this.#versions.keys()) {
      if (this.#versions.size <= MAX_VERSIONS) break;
      this.#versions.delete(version);
    }
  }

  /** Exponentially weighted mean of each version's last replies. */
  means(): { readonly value: number; readonly attributes: { readonly version: string } }[] {
    return [...this.#versions].map(([version, { mean }]) => ({ value: mean, attributes: { version } }));
  }

  /** Replies of each version since it has figures. */
  replies(): { readonly value: number; readonly attributes: { readonly version: string } }[] {
    return [...this.#versions].map(([version, { replies }]) => ({ value: replies, attributes: { version } }));
  }
}
