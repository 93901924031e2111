import { type FileHandle, open } from "node:fs/promises";
import { join } from "node:path";

/** A page of PostgreSQL's log. Bytes. */
const PAGE = Buffer.alloc(8192, 1);

/** What every commit of a database waits for at least: a page that is written over and flushed. */
export class DiskFlush implements AsyncDisposable {
  readonly #file: FileHandle;

  private constructor(file: FileHandle) {
    this.#file = file;
  }

  static async open(directory: string): Promise<DiskFlush> {
    const flush = new DiskFlush(await open(join(directory, "flushed"), "w+"));
    // The file has its length and its place from here on, as that log has.
    await flush.#file.write(PAGE, 0, PAGE.length, 0);
    await flush.#file.sync();
    return flush;
  }

  /** @returns milliseconds */
  async once(): Promise<number> {
    const started = performance.now();
    await this.#file.write(PAGE, 0, PAGE.length, 0);
    await this.#file.datasync();
    return performance.now() - started;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#file.close();
  }
}
