import { spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import {
  chownSync,
  closeSync,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  renameSync,
  rmSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { basename, dirname, join } from "node:path";
import { ServiceError } from "@persona-mesh/service";
import type { PostgresBinaries } from "./binaries.ts";
import { pathFor } from "./passage.ts";
import type { RunAs } from "./run-as.ts";

/** The superuser of an embedded database. */
export const SUPERUSER = "postgres";

/**
 * Make an empty database cluster, once: nothing is at `dataFolder` until it is complete, so a process that is killed in
 * between leaves no half of one.
 *
 * @param durable - whether the files are flushed to the disk
 * @returns the time it took in milliseconds, 0 when it was there
 * @throws ServiceError DATABASE_EMBEDDED_FAILED
 */
export function initCluster(
  binaries: PostgresBinaries,
  dataFolder: string,
  password: string,
  user: RunAs | undefined,
  durable: boolean,
): number {
  if (existsSync(dataFolder)) return 0;
  const start = performance.now();
  removePartial(dataFolder);
  // A name of its own: what a killed start left behind may still be at work on the one before.
  const partial = `${partialPrefix(dataFolder)}${randomBytes(4).toString("hex")}`;
  mkdirSync(partial, { mode: 0o700 });
  if (user !== undefined) chownSync(partial, user.uid, user.gid);
  const passwordInput = openUnlinked(`${partial}.password`, password, user);
  const { status, stderr, error } = spawnSync(
    binaries.initdb,
    [
      ["--pgdata", pathFor(partial, user)],
      ["--username", SUPERUSER],
      ["--pwfile", "/dev/stdin"],
      ["--auth", "scram-sha-256"],
      ["--encoding", "UTF8"],
      // Byte order everywhere: the same on every system, and no index breaks when a C library changes its collations.
      ["--locale-provider", "builtin", "--builtin-locale", "C.UTF-8", "--locale", "C"],
      // One flush of the file system instead of a thousand of files.
      durable ? ["--sync-method", process.platform === "linux" ? "syncfs" : "fsync"] : ["--no-sync"],
    ].flat(),
    {
      cwd: partial,
      stdio: [passwordInput, "ignore", "pipe"],
      encoding: "utf8",
      timeout: INITDB_TIMEOUT_MS,
      env: { LC_ALL: "C" },
      ...user,
    },
  );
  closeSync(passwordInput);
  if (status !== 0) {
    const words = stderr?.trim().split("\n").slice(-3).join("; ") ?? "";
    throw new ServiceError("DATABASE_EMBEDDED_FAILED", `a new database cannot be made in ${dataFolder}`, {
      cause: error ?? new Error(words),
    });
  }
  renameSync(partial, dataFolder);
  if (durable) flushFolder(dirname(dataFolder));
  return performance.now() - start;
}

/** Far beyond what any disk needs. */
const INITDB_TIMEOUT_MS = 120_000;

function partialPrefix(dataFolder: string): string {
  return `${dataFolder}.partial-`;
}

function removePartial(dataFolder: string): void {
  const prefix = basename(partialPrefix(dataFolder));
  for (const name of readdirSync(dirname(dataFolder)).filter((it) => it.startsWith(prefix))) {
    rmSync(join(dirname(dataFolder), name), { recursive: true, force: true });
  }
}

/** A file with this text that only who has it open can read, and only once: its name is gone. */
function openUnlinked(path: string, text: string, user: RunAs | undefined): number {
  writeFileSync(path, text, { mode: 0o600 });
  if (user !== undefined) chownSync(path, user.uid, user.gid);
  const file = openSync(path, "r");
  unlinkSync(path);
  return file;
}

function flushFolder(folder: string): void {
  const file = openSync(folder, "r");
  try {
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
}
