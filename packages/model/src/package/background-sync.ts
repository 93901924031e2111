import type { FileHandle } from "node:fs/promises";

/** Bytes after which a file is brought to the disk: what is left for the end takes a second or two. */
const SYNC_BYTES = 512 * 1024 * 1024;

/**
 * Brings a file to the disk while it is being written, so that the disk works all the time, progress is what the disk has
 * taken, and the wait at the end is short.
 */
export class BackgroundSync implements AsyncDisposable {
  readonly #file: FileHandle;
  #pending = 0;
  #running: Promise<void> = Promise.resolve();

  constructor(file: FileHandle) {
    this.#file = file;
  }

  /**
   * Say that bytes have been written. Waits where the disk lags behind by more than twice {@link SYNC_BYTES}.
   *
   * @throws what the file system throws: a full disk may show only here
   */
  async wrote(bytes: number): Promise<void> {
    this.#pending += bytes;
    if (this.#pending < SYNC_BYTES) return;
    this.#pending = 0;
    const before = this.#running;
    this.#running = before.then(() => this.#file.datasync());
    // Thrown where it is waited for: here next time, or in `finish`.
    this.#running.catch(() => {});
    await before;
  }

  /**
   * Wait for what is under way; the rest is not brought to the disk.
   *
   * @throws what the file system throws
   */
  async finish(): Promise<void> {
    await this.#running;
  }

  /** The file must not be closed while it is being brought to the disk. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#running.catch(() => {});
  }
}
