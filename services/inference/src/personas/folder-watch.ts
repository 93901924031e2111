import { type FSWatcher, watch } from "node:fs";
import { stat } from "node:fs/promises";

interface Watched {
  readonly watcher: FSWatcher;
  /** A folder of the same name that replaces it has another, and needs a watch of its own. */
  readonly inode: bigint;
}

/**
 * Tells when something in a few folders changes; what, it does not say.
 *
 * A watch per folder and none recursive: on Linux, Node's recursive watch follows single files, and so misses the second
 * file that is renamed over a name.
 */
export class FolderWatch implements Disposable {
  readonly #onChange: () => void;
  readonly #watched = new Map<string, Watched>();
  #closed = false;

  constructor(onChange: () => void) {
    this.#onChange = onChange;
  }

  /** Watch these folders and no others. One that cannot be watched is tried again at the next call. */
  async follow(folders: readonly string[]): Promise<void> {
    const wanted = new Set(folders);
    for (const folder of this.#watched.keys()) if (!wanted.has(folder)) this.#drop(folder);
    for (const folder of wanted) {
      const inode = await inodeOf(folder);
      if (this.#closed) return;
      if (this.#watched.get(folder)?.inode === inode) continue;
      this.#drop(folder);
      if (inode !== undefined) this.#add(folder, inode);
    }
  }

  [Symbol.dispose](): void {
    this.#closed = true;
    for (const folder of this.#watched.keys()) this.#drop(folder);
  }

  #add(folder: string, inode: bigint): void {
    try {
      const watcher = watch(folder, { persistent: false }, () => this.#onChange());
      watcher.on("error", () => this.#drop(folder));
      this.#watched.set(folder, { watcher, inode });
    } catch {
      // Gone meanwhile, or no more watches to be had: changes are found by looking, only later.
    }
  }

  #drop(folder: string): void {
    this.#watched.get(folder)?.watcher.close();
    this.#watched.delete(folder);
  }
}

function inodeOf(folder: string): Promise<bigint | undefined> {
  return stat(folder, { bigint: true }).then(
    ({ ino }) => ino,
    () => undefined,
  );
}
