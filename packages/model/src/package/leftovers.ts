import { createHash, randomBytes } from "node:crypto";
import { readFileSync, readlinkSync } from "node:fs";
import { readdir, rename, rm, stat } from "node:fs/promises";
import { hostname } from "node:os";
import { basename, dirname, join } from "node:path";

/** Ends the name of what gave way to a staged directory. */
export const OLD_SUFFIX = ".old";

/**
 * A directory that has not been touched for this long belongs to nobody. Far longer than its maker lets pass between two
 * touches (a minute), so that a machine that slept, or a process that was stopped for a while, keeps its work.
 */
const ABANDONED_MILLIS = 60 * 60 * 1000;

/**
 * A fresh name for a directory in which the contents of `target` are made: hidden, beside it, and telling who makes it.
 *
 * @param target - name of the directory that is to be
 */
export function stagedName(target: string): string {
  return `${prefixOf(target)}${process.pid}-${processSpace()}-${randomBytes(4).toString("hex")}`;
}

/**
 * Remove what killed processes left of their attempts at `target`. One that was killed between the two renames of a
 * replacement has left the directory that was to be replaced: it comes back into its place.
 *
 * What may still be worked on stays. A process id says whether its process lives, but only to those who see the same
 * processes: in a volume that containers or machines share, the same number is another process, or none. So the maker's
 * process id decides where maker and reader share a process space, and elsewhere only how long nobody has touched the
 * directory. An id that came into use again keeps a leftover for as long as that, too.
 *
 * @param target - absolute path
 * @param now - the time, in milliseconds since 1970
 */
export async function clearLeftovers(target: string, now = Date.now()): Promise<void> {
  const parent = dirname(target);
  const prefix = prefixOf(basename(target));
  const names = await readdir(parent).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT" || error.code === "ENOTDIR") return [];
    throw error;
  });
  for (const name of names) {
    const match = name.startsWith(prefix) && MAKER.exec(name.slice(prefix.length));
    if (!match) continue;
    const path = join(parent, name);
    const [, pid, space] = match;
    if (await mayBeInUse(path, Number(pid), space as string, now)) continue;
    if (name.endsWith(OLD_SUFFIX)) await putBack(path, target);
    // What cannot be removed is in nobody's way.
    else await rm(path, { recursive: true, force: true }).catch(() => {});
  }
}

/** Put what gave way back into its place, or remove it where that place is taken: then it has been replaced. */
export async function putBack(old: string, target: string): Promise<void> {
  try {
    await rename(old, target);
  } catch (error) {
    const isTaken = ["ENOTEMPTY", "EEXIST", "ENOTDIR"].includes((error as NodeJS.ErrnoException).code ?? "");
    if (isTaken) await rm(old, { recursive: true, force: true }).catch(() => {});
  }
}

/** What follows the prefix: process id, process space, and a number at random. */
const MAKER = /^(\d+)-([0-9a-f]{8})-[0-9a-f]{8}(?:\.old)?$/;

async function mayBeInUse(path: string, pid: number, space: string, now: number): Promise<boolean> {
  const info = await stat(path).catch(() => undefined);
  // The time of the last change of name counts too: what was to be replaced may be old.
  if (info === undefined || now - info.ctimeMs > ABANDONED_MILLIS) return false;
  return space !== processSpace() || isAlive(pid);
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}

/** Names the set of processes that share their ids with this one: a machine since its start, or a container. */
function processSpace(): string {
  const parts = [hostname(), orNothing(() => readFileSync(BOOT_ID, "utf8")), orNothing(() => readlinkSync(PID_SPACE))];
  return createHash("sha256").update(parts.join("\n")).digest("hex").slice(0, 8);
}

const BOOT_ID = "/proc/sys/kernel/random/boot_id";
const PID_SPACE = "/proc/self/ns/pid";

/** Only Linux tells these. */
function orNothing(read: () => string): string {
  try {
    return read();
  } catch {
    return "";
  }
}

function prefixOf(target: string): string {
  return `.${target}.staged-`;
}
