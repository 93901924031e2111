import type { LibraryHandle } from "koffi";
import { OnnxRuntimeError } from "./error.ts";
import { loadLibrary, type Pointer } from "./library.ts";

/** What we use of the C library of Linux and macOS. */
export interface LibC {
  /** @returns the address, or all ones */
  readonly mmap: (
    address: null,
    length: number,
    protection: number,
    flags: number,
    fd: number,
    offset: number,
  ) => Pointer;
  readonly munmap: (address: Pointer, length: number) => number;
  readonly madvise: Madvise;
  /** Linux only: which pages of a range are there, a byte each. */
  readonly mincore: ((address: Pointer, length: number, into: Pointer) => number) | undefined;
  /** glibc only: hand free pages of the heap back to the system. */
  readonly mallocTrim: ((keep: number) => number) | undefined;
}

interface Madvise {
  (address: Pointer, length: number, advice: number): number;
  /** On another thread. */
  async(address: Pointer, length: number, advice: number, done: (error: Error | null, result: number) => void): void;
}

let loaded: LibC | undefined;

/** @throws OnnxRuntimeError UNSUPPORTED_PLATFORM on Windows */
export function libC(): LibC {
  if (process.platform === "win32") {
    throw new OnnxRuntimeError(
      "UNSUPPORTED_PLATFORM",
      "weights files are mapped with mmap, which Windows does not have",
    );
  }
  loaded ??= declare(loadLibrary(null));
  return loaded;
}

function declare(self: LibraryHandle): LibC {
  return {
    mmap: self.func("mmap", "void *", ["void *", "size_t", "int", "int", "int", "int64_t"]),
    munmap: self.func("munmap", "int", ["void *", "size_t"]),
    madvise: self.func("madvise", "int", ["void *", "size_t", "int"]),
    mincore: ifPresent(() => self.func("mincore", "int", ["void *", "size_t", "void *"])),
    mallocTrim: ifPresent(() => self.func("malloc_trim", "int", ["size_t"])),
  };
}

function ifPresent<T>(find: () => T): T | undefined {
  try {
    return find();
  } catch {
    return undefined;
  }
}
