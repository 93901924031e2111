import { mkdir, open, readdir, rename, rm, utimes } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import { OLD_SUFFIX, putBack, stagedName } from "./leftovers.ts";

/** How often a staged directory is touched, so that others see that its maker lives. */
const TOUCH_MILLIS = 60_000;

/**
 * A directory that appears whole or not at all: files are written into a hidden one beside it, which is renamed when
 * everything is on disk.
 */
export class StagedDirectory implements AsyncDisposable {
  /** Where to write. */
  readonly path: string;
  readonly #target: string;
  readonly #touching: NodeJS.Timeout;
  #done = false;

  private constructor(target: string, path: string) {
    this.#target = target;
    this.path = path;
    this.#touching = setInterval(() => {
      const now = new Date();
      // Whoever removed it finds that out when the directory is to be renamed.
      utimes(path, now, now).catch(() => {});
    }, TOUCH_MILLIS).unref();
  }

  /** Makes the directories above, too. What killed processes left is another's to clear: `clearLeftovers`. */
  static async create(target: string): Promise<StagedDirectory> {
    const absolute = resolve(target);
    const parent = dirname(absolute);
    await mkdir(parent, { recursive: true });
    const path = join(parent, stagedName(basename(absolute)));
    await mkdir(path);
    return new StagedDirectory(absolute, path);
  }

  /**
   * Flush the files and make the directory visible under its name.
   *
   * @param replace - whether a directory that is already there gives way
   */
  async commit(replace: boolean): Promise<void> {
    for (const name of await readdir(this.path)) await sync(join(this.path, name));
    await sync(this.path);
    if (replace) await this.#replace();
    else await rename(this.path, this.#target);
    this.#done = true;
    await sync(dirname(this.#target));
  }

  /** Between the two renames the target is missing, never half-made; `clearLeftovers` mends it after a kill. */
  async #replace(): Promise<void> {
    const old = `${this.path}${OLD_SUFFIX}`;
    const moved = await rename(this.#target, old).then(
      () => true,
      (error: NodeJS.ErrnoException) => {
        if (error.code === "ENOENT") return false;
        throw error;
      },
    );
    try {
      await rename(this.path, this.#target);
    } catch (error) {
      if (moved) await putBack(old, this.#target);
      throw error;
    }
    if (moved) await rm(old, { recursive: true, force: true });
  }

  /** Leaves nothing behind unless the directory was committed. */
  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#touching);
    if (!this.#done) await rm(this.path, { recursive: true, force: true });
  }
}

async function sync(path: string): Promise<void> {
  const handle = await open(path, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
