import { type FileHandle, mkdir, open, rename } from "node:fs/promises";
import { dirname } from "node:path";
import { decodeRootLine, encodeRootLine, type SignedRoot } from "@persona-mesh/audit";
import { rootsDiverged } from "./diverged.ts";

/**
 * How much of the file's end is read for its last line: more than two lines have, else more than was ever written at once, for a
 * machine that lost power in the middle of that.
 */
const TAIL_BYTES = [16 * 1024, 8 * 1024 * 1024];

/**
 * The roots as they are kept outside the database: a file with a line each, only ever added to. Holds no root that is not
 * committed, so that a database that lacks one of them has lost it.
 *
 * Replicas may share the file: it is read and written under the lock of those who sign, and the end is looked at again each time.
 */
export class OutsideRoots {
  readonly path: string;

  constructor(path: string) {
    this.path = path;
  }

  /**
   * The newest root in the file; undefined where there is none.
   *
   * @throws ServiceError AUDIT_ROOTS_DIVERGED where its end is no root
   */
  async newest(): Promise<SignedRoot | undefined> {
    const file = await this.#open();
    try {
      const { size } = await file.stat();
      const tail = await readTail(file, size);
      // A line that a crash cut off was not yet relied on: its root is in the database, from where it comes again.
      if (tail.end < size) await file.truncate(tail.end);
      if (tail.end === 0) return undefined;
      const root = decodeRootLine(tail.line);
      if (root === undefined) throw rootsDiverged(`${this.path} does not end with a root: it was damaged`);
      return root;
    } finally {
      await file.close();
    }
  }

  /** Add roots behind the newest; on the disk when it resolves. */
  async append(roots: readonly SignedRoot[]): Promise<void> {
    if (roots.length === 0) return;
    const file = await this.#open();
    try {
      await file.appendFile(roots.map((root) => `${encodeRootLine(root)}\n`).join(""));
      await file.datasync();
    } finally {
      await file.close();
    }
  }

  /** Keep the file as it is beside its place, as evidence, and begin a new one. @returns where it is now */
  async setAside(time: Date): Promise<string> {
    const aside = `${this.path}.lost-${time.toISOString().replaceAll(":", "")}`;
    await rename(this.path, aside);
    return aside;
  }

  async #open(): Promise<FileHandle> {
    await mkdir(dirname(this.path), { recursive: true, mode: 0o700 });
    return open(this.path, "a+", 0o600);
  }
}

/** The last whole line of a file, and where it ends. */
async function readTail(file: FileHandle, size: number): Promise<{ readonly line: string; readonly end: number }> {
  for (const bytes of TAIL_BYTES) {
    const start = Math.max(0, size - bytes);
    const { buffer, bytesRead } = await file.read(Buffer.alloc(size - start), 0, size - start, start);
    const end = buffer.subarray(0, bytesRead).lastIndexOf(NEWLINE);
    if (end >= 0) return { line: buffer.toString("utf8", 0, end).split("\n").at(-1) ?? "", end: start + end + 1 };
    if (start === 0) return { line: "", end: 0 };
  }
  // Nothing that was written here.
  return { line: "", end: size };
}

const NEWLINE = 0x0a;
