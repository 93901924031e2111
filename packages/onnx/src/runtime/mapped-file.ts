import { closeSync, fstatSync, openSync } from "node:fs";
import koffi from "koffi";
import { OnnxRuntimeError } from "./error.ts";
import { Handle } from "./handle.ts";
import { libC } from "./lib-c.ts";
import type { Pointer } from "./library.ts";

/** Same values on Linux and macOS. */
const PROT_READ = 1;
const MAP_SHARED = 1;
const MADV_DONTNEED = 4;
const MAP_FAILED = 0xffffffffffffffffn;

/**
 * A file mapped read-only. Its pages are the kernel's page cache: shared with every process that maps the same file,
 * and given back under memory pressure.
 *
 * Replace such a file by renaming a new one over it. Truncating it while it is mapped ends the process (SIGBUS).
 */
export class MappedFile implements Disposable {
  readonly path: string;
  readonly byteLength: number;
  /** Page-aligned. */
  readonly address: Pointer;
  readonly handle: Handle;

  /** @throws OnnxRuntimeError NO_SUCH_FILE, INVALID_WEIGHTS for an empty file, UNSUPPORTED_PLATFORM on Windows */
  constructor(path: string) {
    const { mmap, munmap } = libC();
    const fd = openFile(path);
    try {
      this.path = path;
      this.byteLength = fstatSync(fd).size;
      if (this.byteLength === 0) throw new OnnxRuntimeError("INVALID_WEIGHTS", `${path} is empty`);
      this.address = mmap(null, this.byteLength, PROT_READ, MAP_SHARED, fd, 0);
      if (this.address === MAP_FAILED) {
        throw new OnnxRuntimeError("FAIL", `cannot map ${path} (errno ${koffi.errno()})`);
      }
    } finally {
      closeSync(fd);
    }
    this.handle = new Handle(`mapping of ${path}`, () => {
      munmap(this.address, this.byteLength);
    });
  }

  /** Let this process's resident pages go; the next read faults them in again. */
  adviseUnneeded(): void {
    this.handle.check();
    libC().madvise(this.address, this.byteLength, MADV_DONTNEED);
  }

  close(): void {
    this.handle.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

function openFile(path: string): number {
  try {
    return openSync(path, "r");
  } catch (cause) {
    throw new OnnxRuntimeError("NO_SUCH_FILE", `cannot open ${path}: ${(cause as Error).message}`, { cause });
  }
}
