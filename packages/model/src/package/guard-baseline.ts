import { randomBytes } from "node:crypto";
import { copyFile, link, rm } from "node:fs/promises";
import { join } from "node:path";
import { PACKAGE_FILE } from "./manifest.ts";

/**
 * A checkpoint may bring the baseline of its guard along: copy it whole, unless the package has one already, which may be
 * somebody's own. What it holds is for its reader to judge.
 */
export async function copyGuardBaseline(checkpointDir: string, packageDir: string): Promise<void> {
  const to = join(packageDir, PACKAGE_FILE.guardBaseline);
  const staged = `${to}.${process.pid}-${randomBytes(4).toString("hex")}`;
  try {
    await copyFile(join(checkpointDir, PACKAGE_FILE.guardBaseline), staged);
    // Unlike rename, link never replaces.
    await link(staged, to);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code !== "ENOENT" && code !== "EEXIST") throw error;
  } finally {
    await rm(staged, { force: true });
  }
}
