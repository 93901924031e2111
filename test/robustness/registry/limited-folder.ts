import { execFile } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";

const run = promisify(execFile);

/** Room for the database and what it writes in a run, and little more. */
const SIZE = "512m";

/**
 * A folder on a small file system in memory, so that a full disk can be had without filling this machine's.
 *
 * @returns undefined where we may not mount one: that takes root
 */
export async function openLimitedFolder(): Promise<(AsyncDisposable & { readonly path: string }) | undefined> {
  const path = await mkdtemp(join(tmpdir(), "persona-disk-"));
  try {
    await run("mount", ["-t", "tmpfs", "-o", `size=${SIZE},mode=0711`, "persona-robustness", path]);
  } catch {
    await rm(path, { recursive: true, force: true });
    return undefined;
  }
  return {
    path,
    async [Symbol.asyncDispose]() {
      await run("umount", ["-l", path]);
      await rm(path, { recursive: true, force: true });
    },
  };
}
