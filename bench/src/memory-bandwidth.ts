import koffi from "koffi";

/** Read by one scan: far beyond any cache, and about as long as a decode step. */
const BYTES = 1 << 29;

/**
 * Reads memory as fast as it comes: libc's memchr looks for a byte that is not there, each thread in a part of its own.
 * It is vectorised and does nothing but read. To be timed beside what is compared with it: on a shared machine the
 * bandwidth is not the same a minute later.
 */
export class MemoryReader {
  /** Bytes that one scan reads. */
  readonly bytes: number;
  readonly #scans: readonly (() => Promise<void>)[];

  constructor(threads: number) {
    const libc = koffi.load(process.platform === "darwin" ? "libSystem.B.dylib" : "libc.so.6");
    const memchr = libc.func("void *memchr(const void *memory, int byte, size_t bytes)");
    const part = Math.floor(BYTES / threads);
    this.bytes = part * threads;
    this.#scans = Array.from({ length: threads }, () => {
      const memory = new Uint8Array(part).fill(1);
      return () =>
        new Promise<void>((resolve, reject) => {
          memchr.async(memory, 2, part, (error: unknown) => (error === null ? resolve() : reject(error)));
        });
    });
  }

  async scan(): Promise<void> {
    await Promise.all(this.#scans.map((scan) => scan()));
  }
}
