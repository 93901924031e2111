import { constants } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import { CheckpointError } from "../errors.ts";
import { quote } from "./quote.ts";

/** One read call moves at most this much: the platform's own limit is 2 GiB, and between reads an abort is seen. */
const READ_BYTES = 64 * 1024 * 1024;

/**
 * Open a file for reading, if it is a regular file and no link.
 *
 * Looked at after it is open, so that nothing can be put in its place in between; a pipe without a writer is opened
 * without waiting for one.
 *
 * @param path - absolute, links resolved
 * @param name - for messages
 * @throws CheckpointError CHECKPOINT_UNSAFE_PATH for a directory, pipe, socket or device, CHECKPOINT_NOT_FOUND when it
 *   cannot be opened
 */
export async function openRegularFile(path: string, name: string): Promise<FileHandle> {
  // Platforms without these flags have neither such links nor such pipes.
  const flags = constants.O_RDONLY | (constants.O_NOFOLLOW ?? 0) | (constants.O_NONBLOCK ?? 0);
  const file = await open(path, flags).catch((error: NodeJS.ErrnoException) => {
    throw new CheckpointError("CHECKPOINT_NOT_FOUND", `cannot read ${quote(name)}: ${error.code}`, { cause: error });
  });
  try {
    if ((await file.stat()).isFile()) return file;
  } catch (error) {
    await file.close();
    throw error;
  }
  await file.close();
  throw new CheckpointError("CHECKPOINT_UNSAFE_PATH", `${quote(name)} is not a regular file`);
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
