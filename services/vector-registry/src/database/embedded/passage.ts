import { chmodSync, cpSync, existsSync, lstatSync, mkdtempSync, renameSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { ServiceError } from "@persona-mesh/service";
import type { PostgresBinaries } from "./binaries.ts";
import type { RunAs } from "./run-as.ts";

/** Root's own folders let nobody else pass, and PostgreSQL runs as somebody else then. These are the ways in. */

/** Whether a user gets to a path: every folder above must let it pass. */
export function canPass(path: string, user: RunAs | undefined): boolean {
  if (user === undefined) return true;
  for (let folder = dirname(path); ; folder = dirname(folder)) {
    const { mode, uid, gid } = statSync(folder);
    const needed = uid === user.uid ? 0o100 : gid === user.gid ? 0o010 : 0o001;
    if ((mode & needed) === 0) return false;
    if (folder === dirname(folder)) return true;
  }
}

/**
 * How a program is told a folder of its user's that it is started in. Where it cannot pass the folders above, that is its
 * working folder as the kernel holds it: a process is always let into the one that it was given.
 *
 * @throws ServiceError DATABASE_EMBEDDED_FAILED where the system has no such name for it
 */
export function pathFor(folder: string, user: RunAs | undefined): string {
  if (canPass(folder, user)) return folder;
  if (process.platform === "linux") return "/proc/self/cwd";
  throw new ServiceError(
    "DATABASE_EMBEDDED_FAILED",
    `PostgreSQL does not run as root, and the user nobody cannot get to ${folder}: start the service as another user, or choose another folder`,
  );
}

/**
 * The programs where the user can run them: in place, or copied once to the system's temporary folder, where only root can
 * have written them.
 *
 * @param version - of the programs; another one is another copy
 */
export function reachableBinaries(
  binaries: PostgresBinaries,
  version: string,
  user: RunAs | undefined,
): PostgresBinaries {
  if (canPass(binaries.postgres, user)) return binaries;
  const copy = join(tmpdir(), `persona-postgres-${version}`);
  if (!isRoots(copy)) {
    const made = mkdtempSync(`${copy}-`);
    // Beside bin/ lie the libraries and the data that the programs look for from where they are.
    cpSync(join(dirname(binaries.postgres), ".."), made, { recursive: true, verbatimSymlinks: true });
    chmodSync(made, 0o755);
    try {
      renameSync(made, copy);
    } catch {
      // Another process was faster, or something else has the name: ours is as good under its own.
      if (!isRoots(copy)) return inside(made);
      rmSync(made, { recursive: true });
    }
  }
  return inside(copy);
}

function inside(folder: string): PostgresBinaries {
  return { initdb: join(folder, "bin", "initdb"), postgres: join(folder, "bin", "postgres") };
}

/** Anyone can make a folder of this name in a temporary folder; only one of root's is to be trusted. */
function isRoots(folder: string): boolean {
  if (!existsSync(folder)) return false;
  const found = lstatSync(folder);
  return found.isDirectory() && found.uid === 0 && (found.mode & 0o022) === 0;
}
