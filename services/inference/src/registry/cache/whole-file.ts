import { randomBytes } from "node:crypto";
import { open, readdir, rename, unlink } from "node:fs/promises";
import { dirname, join } from "node:path";

/** Ends of the names of files that are being written; the process's id is in them. */
const UNFINISHED = /\.(\d+)\.[0-9a-f]{16}\.part$/;

/**
 * Replace a file, durably: after this, and after any crash, it is the old one or the new one, whole.
 *
 * @throws the file system's error; the old file is then as it was
 */
export async function writeWhole(path: string, content: Uint8Array): Promise<void> {
  const temporary = `${path}.${process.pid}.${randomBytes(8).toString("hex")}.part`;
  try {
    await using file = await open(temporary, "wx", 0o600);
    await file.writeFile(content);
    await file.sync();
  } catch (error) {
    await unlink(temporary).catch(() => {});
    throw error;
  }
  try {
    await rename(temporary, path);
  } catch (error) {
    await unlink(temporary).catch(() => {});
    throw error;
  }
  await syncFolder(dirname(path));
}

/** Make the names in a folder durable. */
export async function syncFolder(path: string): Promise<void> {
  // Windows has no such call, and its file systems need none.
  if (process.platform === "win32") return;
  await using folder = await open(path, "r");
  await folder.sync();
}

/** Delete what processes that are gone left half written. */
export async function cleanUnfinished(folder: string): Promise<void> {
  for (const name of await readdir(folder)) {
    const writer = UNFINISHED.exec(name)?.[1];
    if (writer !== undefined && !isAlive(Number(writer))) await unlink(join(folder, name)).catch(() => {});
  }
}

function isAlive(pid: number): boolean {
  // After a restart of a container the same id is another process, or this one.
  if (pid === process.pid) return false;
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}
