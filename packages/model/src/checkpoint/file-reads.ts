import { type BigIntStats, constants } from "node:fs";
import { type FileHandle, lstat, open } from "node:fs/promises";
import { CheckpointError } from "../errors.ts";
import { quote } from "./quote.ts";

/** One read call moves at most this much: the platform's own limit is 2 GiB, and between reads an abort is seen. */
const READ_BYTES = 64 * 1024 * 1024;

/** What a clone without Git LFS has in place of a large file: a text of three lines, about 130 bytes. */
const LFS_POINTER = { start: "version https://git-lfs.github.com/spec/", mostBytes: 1024 };

/** A regular file that is open for reading; whoever has it closes `handle`. */
export interface RegularFile {
  readonly handle: FileHandle;
  /** Bytes it had when it was opened. */
  readonly size: number;
  /** Differs once the file is written to, or another is in its place. */
  readonly version: string;
}

/**
 * Open a file for reading, if it is a regular file and no link.
 *
 * Looked at after it is open, so that nothing can be put in its place in between; a pipe without a writer is opened
 * without waiting for one.
 *
 * @param path - absolute, links resolved
 * @param name - for messages
 * @throws CheckpointError CHECKPOINT_UNSAFE_PATH for a directory, pipe, socket or device, CHECKPOINT_NOT_FOUND when it
 *   cannot be opened, CHECKPOINT_CORRUPT when it is a pointer of Git LFS
 */
export async function openVersioned(path: string, name: string): Promise<RegularFile> {
  // Platforms without these flags have neither such links nor such pipes.
  const flags = constants.O_RDONLY | (constants.O_NOFOLLOW ?? 0) | (constants.O_NONBLOCK ?? 0);
  const handle = await open(path, flags).catch((error: NodeJS.ErrnoException) => {
    // What a socket and a device without a driver answer.
    if (error.code === "ENXIO" || error.code === "ENODEV") throw irregular(name);
    throw new CheckpointError("CHECKPOINT_NOT_FOUND", `cannot read ${quote(name)}: ${error.code}`, { cause: error });
  });
  try {
    const stats = await handle.stat({ bigint: true });
    if (!stats.isFile()) throw irregular(name);
    const size = Number(stats.size);
    if (size <= LFS_POINTER.mostBytes) await refusePointer(handle, name);
    return { handle, size, version: versionOf(stats) };
  } catch (error) {
    await handle.close();
    throw error;
  }
}

/** {@link openVersioned} where only the handle matters. */
export async function openRegularFile(path: string, name: string): Promise<FileHandle> {
  return (await openVersioned(path, name)).handle;
}

/**
 * @param opened - what {@link openVersioned} gave for `path`
 * @throws CheckpointError CHECKPOINT_CORRUPT when the file was written to since, or another is in its place
 */
export async function refuseChange(opened: RegularFile, path: string, name: string): Promise<void> {
  const now = await lstat(path, { bigint: true }).catch(() => undefined);
  if (now !== undefined && versionOf(now) === opened.version) return;
  throw new CheckpointError("CHECKPOINT_CORRUPT", `${quote(name)} changed while it was being imported`);
}

function versionOf({ dev, ino, size, mtimeNs }: BigIntStats): string {
  return [dev, ino, size, mtimeNs].join();
}

async function refusePointer(handle: FileHandle, name: string): Promise<void> {
  const { bytesRead, buffer } = await handle.read(Buffer.alloc(LFS_POINTER.start.length), 0, undefined, 0);
  if (buffer.toString("latin1", 0, bytesRead) !== LFS_POINTER.start) return;
  throw new CheckpointError(
    "CHECKPOINT_CORRUPT",
    `${quote(name)} is a pointer of Git LFS to the file, not the file. Fetch the files with "git lfs pull".`,
  );
}

function irregular(name: string): CheckpointError {
  return new CheckpointError("CHECKPOINT_UNSAFE_PATH", `${quote(name)} is not a regular file`);
}

/**
 * Fill `into` with the bytes of a file from `position` on.
 *
 * @throws CheckpointError CHECKPOINT_CORRUPT when the file ends before
 */
export async function readExactly(
  file: FileHandle,
  into: Uint8Array,
  position: number,
  name: string,
  signal?: AbortSignal,
): Promise<void> {
  let done = 0;
  while (done < into.byteLength) {
    signal?.throwIfAborted();
    const { bytesRead } = await file.read(into, done, Math.min(READ_BYTES, into.byteLength - done), position + done);
    if (bytesRead === 0) {
      throw new CheckpointError(
        "CHECKPOINT_CORRUPT",
        `${quote(name)} ends at byte ${position + done}, within its data`,
      );
    }
    done += bytesRead;
  }
}
