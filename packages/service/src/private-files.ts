import { randomBytes } from "node:crypto";
import { chmod, link, readFile, rename, stat, unlink, writeFile } from "node:fs/promises";
import { ServiceError } from "./errors/service-error.ts";

/**
 * A file with a secret, or undefined where there is none.
 *
 * @throws ServiceError CONFIG_INVALID when others can read it
 */
export async function readPrivate(path: string): Promise<string | undefined> {
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
  // Windows has no such bits to check.
  if (process.platform !== "win32" && ((await stat(path)).mode & 0o077) !== 0) {
    throw new ServiceError("CONFIG_INVALID", `dataDir: others can read the signing key ${path}; run chmod 600 on it`);
  }
  return text;
}

/**
 * Write a secret once, for this user only: of several processes that try at the same time one wins.
 *
 * @returns what the file holds now: this content or the winner's
 */
export async function createPrivate(path: string, content: string): Promise<string> {
  const temporary = `${path}.${randomBytes(8).toString("hex")}`;
  await writeFile(temporary, content, { mode: 0o600, flag: "wx" });
  try {
    // Unlike rename, link fails when another process was faster: its content wins, whole.
    await link(temporary, path);
    return content;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
    const theirs = await readPrivate(path);
    if (theirs === undefined) throw error;
    return theirs;
  } finally {
    await unlink(temporary);
  }
}

/** Replace a file: readers see the old content or the new one, never a part. */
export async function writeWhole(path: string, content: string, mode: number): Promise<void> {
  const temporary = `${path}.${randomBytes(8).toString("hex")}`;
  await writeFile(temporary, content, { mode, flag: "wx" });
  await chmod(temporary, mode);
  await rename(temporary, path);
}
