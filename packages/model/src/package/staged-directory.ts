import { randomBytes } from "node:crypto";
import { mkdir, open, readdir, rename, rm } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";

/**
 * A directory that appears whole or not at all: files are written into a hidden one beside it, which is renamed when
 * everything is on disk.
 */
export class StagedDirectory {
  /** Where to write. */
  readonly path: string;
  readonly #target: string;
  #done = false;

  private constructor(target: string, path: string) {
    this.#target = target;
    this.path = path;
  }

  /** Also removes what a killed process left of an earlier attempt at the same target. */
  static async create(target: string): Promise<StagedDirectory> {
    const absolute = resolve(target);
    const parent = dirname(absolute);
    await mkdir(parent, { recursive: true });
    const prefix = `.${basename(absolute)}.staged-`;
    for (const name of await readdir(parent)) {
      if (name.startsWith(prefix) && !isAlive(Number.parseInt(name.slice(prefix.length), 10))) {
        await rm(join(parent, name), { recursive: true, force: true });
      }
    }
    const path = join(parent, `${prefix}${process.pid}-${randomBytes(4).toString("hex")}`);
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
    if (replace) {
      const old = `${this.path}.old`;
      // Between the two renames the target is missing, never half-made.
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
        if (moved) await rename(old, this.#target);
        throw error;
      }
      this.#done = true;
      if (moved) await rm(old, { recursive: true, force: true });
    } else {
      await rename(this.path, this.#target);
      this.#done = true;
    }
    await sync(dirname(this.#target));
  }

  /** Leaves nothing behind unless the directory was committed. */
  async [Symbol.asyncDispose](): Promise<void> {
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

function isAlive(pid: number): boolean {
  if (!Number.isInteger(pid) || pid <= 0) return false;
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}
