import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import type { Logger } from "@persona-mesh/service";
import type { Picture, RevokedVersion } from "../picture.ts";
import { ContactFile } from "./contact-file.ts";
import { RevocationFile } from "./revocation-file.ts";
import { StateFile } from "./state-file.ts";
import { VersionFiles } from "./version-files.ts";
import { cleanUnfinished } from "./whole-file.ts";

export interface CacheOptions {
  readonly folder: string;
  /** Of versions; the rest is small. */
  readonly maxBytes: number;
}

/** What a cold start without the registry goes on from. */
export interface CachedPicture {
  readonly picture: Picture;
  /** Milliseconds since the epoch. */
  readonly lastContact: number;
}

/**
 * What a worker keeps on its disk, so that it can serve without the registry: the last picture, the versions in it, when the
 * registry was last heard, and every revocation that was ever seen.
 */
export class LocalCache {
  readonly versions: VersionFiles;
  /** Revoked before this process began. */
  readonly revoked: readonly RevokedVersion[];
  /** Undefined where there is none that may be used. */
  readonly cached: CachedPicture | undefined;
  readonly #state: StateFile;
  readonly #contact: ContactFile;
  readonly #revocations: RevocationFile;
  readonly #log: Logger;
  /** Seen, and not on the disk. */
  #owed: RevokedVersion[] = [];
  /** The picture on the disk is gone, or is to be: it would bring back what is revoked. */
  #isVoid = false;

  /** @throws Error when the folder cannot be used at all */
  static async open({ folder, maxBytes }: CacheOptions, log: Logger): Promise<LocalCache> {
    const versions = join(folder, "versions");
    await mkdir(versions, { recursive: true, mode: 0o700 });
    for (const each of [folder, versions]) await cleanUnfinished(each);
    const state = new StateFile(join(folder, "state"));
    const contact = new ContactFile(join(folder, "contact"));
    const revocations = new RevocationFile(join(folder, "revocations"));
    const stored = await state.read().catch((error: unknown) => {
      log.error({ err: error, folder }, "the cached personas are damaged and ignored");
      return undefined;
    });
    const read = await revocations.read(stored?.revocations ?? 0);
    if (read.kind === "unreadable") {
      log.error(
        { err: read.error, folder },
        "revocations cannot be read: no cached persona is served until the registry has answered",
      );
    }
    const picture = stored?.picture;
    const lastContact = await contact.read();
    if (picture !== undefined && lastContact === undefined) {
      log.error({ folder }, "nothing says how old the cached personas are: they are ignored");
    }
    return new LocalCache(
      { state, contact, revocations, versions: await VersionFiles.open(versions, maxBytes) },
      {
        revoked: read.kind === "read" ? read.revoked : [],
        cached:
          read.kind === "unreadable" || picture === undefined || lastContact === undefined
            ? undefined
            : { picture, lastContact },
      },
      log,
    );
  }

  private constructor(
    files: {
      readonly state: StateFile;
      readonly contact: ContactFile;
      readonly revocations: RevocationFile;
      readonly versions: VersionFiles;
    },
    found: { readonly revoked: readonly RevokedVersion[]; readonly cached: CachedPicture | undefined },
    log: Logger,
  ) {
    this.versions = files.versions;
    this.#state = files.state;
    this.#contact = files.contact;
    this.#revocations = files.revocations;
    this.revoked = found.revoked;
    this.cached = found.cached;
    this.#log = log;
  }

  /**
   * Remember revocations for good. Calls must follow one another.
   *
   * @returns whether they are on the disk. If not, the cached picture is deleted in their place, and the next call tries again
   */
  async revoke(revoked: readonly RevokedVersion[]): Promise<boolean> {
    const all = [...this.#owed, ...revoked];
    try {
      await this.#revocations.append(all);
      this.#owed = [];
      this.#isVoid = false;
      return true;
    } catch (error) {
      this.#owed = all;
      this.#isVoid = true;
      this.#log.error({ err: error, revocations: all.length }, "revocations cannot be written");
      await this.#state
        .remove()
        .catch((cause: unknown) => this.#log.fatal({ err: cause }, "nor can the cached personas be deleted"));
      return false;
    }
  }

  /**
   * Keep what is in force. A failure costs a cold start without the registry, and nothing else.
   *
   * @param revocations - how many are known
   * @returns whether it is on the disk
   */
  async keep(picture: Picture, revocations: number): Promise<boolean> {
    if (this.#isVoid) return false;
    try {
      await this.#state.write({ picture, revocations });
      return true;
    } catch (error) {
      this.#log.error({ err: error }, "the personas in force cannot be cached");
      return false;
    }
  }

  /** Remember when the picture on the disk was known to be up to date. */
  async heard(time: number): Promise<void> {
    try {
      await this.#contact.write(time);
    } catch (error) {
      this.#log.warn({ err: error }, "the time of the registry's last word cannot be cached");
    }
  }

  async keepVersion(digest: string, content: Uint8Array, inUse: ReadonlySet<string>): Promise<void> {
    try {
      if (await this.versions.write(digest, content, inUse)) return;
      this.#log.warn(
        { digest },
        "the cache is full of versions in use; this one is not kept: raise registryCacheMegabytes",
      );
    } catch (error) {
      this.#log.error({ err: error, digest }, "a version cannot be cached");
    }
  }

  async close(): Promise<void> {
    await this.#revocations.close();
  }
}
