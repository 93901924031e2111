import { readdir, readFile, stat, unlink } from "node:fs/promises";
import { join } from "node:path";
import { MAX_VECTOR_FILE_BYTES, versionDigest } from "@persona-mesh/steering";
import { writeWhole } from "./whole-file.ts";

const FILE = /^([0-9a-f]{64})\.vector$/;

/**
 * Contents of versions by their digest, in a folder of bounded size: when it is full, those used longest ago go, and what is
 * served now never does.
 */
export class VersionFiles {
  readonly #folder: string;
  readonly #maxBytes: number;
  /** Bytes by digest; the first was used longest ago. */
  readonly #sizes = new Map<string, number>();
  #bytes = 0;

  static async open(folder: string, maxBytes: number): Promise<VersionFiles> {
    const files = new VersionFiles(folder, maxBytes);
    const found: { readonly digest: string; readonly size: number; readonly mtimeMs: number }[] = [];
    for (const name of await readdir(folder)) {
      const digest = FILE.exec(name)?.[1];
      if (digest === undefined) continue;
      const { size, mtimeMs } = await stat(join(folder, name));
      found.push({ digest, size, mtimeMs });
    }
    for (const { digest, size } of found.sort((a, b) => a.mtimeMs - b.mtimeMs)) files.#note(digest, size);
    return files;
  }

  private constructor(folder: string, maxBytes: number) {
    this.#folder = folder;
    this.#maxBytes = maxBytes;
  }

  has(digest: string): boolean {
    return this.#sizes.has(digest);
  }

  /** @returns undefined where it is not there, or not what its name says: such a file is deleted */
  async read(digest: string): Promise<Uint8Array | undefined> {
    const size = this.#sizes.get(digest);
    if (size === undefined) return undefined;
    const bytes = size > MAX_VECTOR_FILE_BYTES ? undefined : await readFile(this.#path(digest)).catch(() => undefined);
    if (bytes === undefined || versionDigest(bytes) !== digest) {
      await this.#delete(digest);
      return undefined;
    }
    this.#note(digest, bytes.length);
    return bytes;
  }

  /**
   * Keep a content.
   *
   * @param inUse - digests of what is served: not deleted to make room
   * @returns false when there is no room
   */
  async write(digest: string, content: Uint8Array, inUse: ReadonlySet<string>): Promise<boolean> {
    if (this.#sizes.has(digest)) return true;
    for (const [other] of this.#sizes) {
      if (this.#bytes + content.length <= this.#maxBytes) break;
      if (!inUse.has(other)) await this.#delete(other);
    }
    if (this.#bytes + content.length > this.#maxBytes) return false;
    await writeWhole(this.#path(digest), content);
    this.#note(digest, content.length);
    return true;
  }

  #note(digest: string, size: number): void {
    this.#bytes += size - (this.#sizes.get(digest) ?? 0);
    this.#sizes.delete(digest);
    this.#sizes.set(digest, size);
  }

  async #delete(digest: string): Promise<void> {
    this.#bytes -= this.#sizes.get(digest) ?? 0;
    this.#sizes.delete(digest);
    await unlink(this.#path(digest)).catch(() => {});
  }

  #path(digest: string): string {
    return join(this.#folder, `${digest}.vector`);
  }
}
