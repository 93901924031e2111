import { spawnSync } from "node:child_process";
import {
  chownSync,
  closeSync,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { ServiceError } from "@persona-mesh/service";
import type { PostgresBinaries } from "./binaries.ts";
import type { RunAs } from "./run-as.ts";

/** The superuser of an embedded database. */
export const SUPERUSER = "postgres";

/**
 * Make an empty database cluster, once: nothing is at `dataFolder` until it is complete, so a process that is killed in
 * between leaves no half of one.
 *
 * @param durable - whether the files are flushed to the disk
 * @returns the time it took in milliseconds, 0 when it was there
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
  const partial = `${dataFolder}.partial`;
  const passwordFile = `${dataFolder}.password`;
  rmSync(partial, { recursive: true, force: true });
  mkdirSync(partial, { mode: 0o700 });
  writeFileSync(passwordFile, password, { mode: 0o600 });
  for (const path of user === undefined ? [] : [partial, passwordFile]) chownSync(path, user?.uid ?? 0, user?.gid ?? 0);
  const { status, stderr, error } = spawnSync(
    binaries.initdb,
    [
      ["--pgdata", partial],
      ["--username", SUPERUSER],
      ["--pwfile", passwordFile],
      ["--auth", "scram-sha-256"],
      ["--encoding", "UTF8"],
      // Byte order everywhere: the same on every system, and no index breaks when a C library changes its collations.
      ["--locale-provider", "builtin", "--builtin-locale", "C.UTF-8", "--locale", "C"],
      durable ? ["--sync-method", process.platform === "linux" ? "syncfs" : "fsync"] : ["--no-sync"],
    ].flat(),
    { cwd: partial, encoding: "utf8", timeout: INITDB_TIMEOUT_MS, env: { LC_ALL: "C" }, ...user },
  );
  rmSync(passwordFile, { force: true });
  if (status !== 0) {
    throw new ServiceError(
      "DATABASE_EMBEDDED_FAILED",
      "a new database cannot be made; the log has PostgreSQL's words",
      {
        cause: error ?? new Error(stderr.trim().split("\n").slice(-3).join("; ")),
      },
    );
  }
  renameSync(partial, dataFolder);
  if (durable) flushFolder(dirname(dataFolder));
  return performance.now() - start;
}

/**
 * Whether a user can get to a path: every folder above must let it pass.
 *
 * @throws ServiceError DATABASE_EMBEDDED_FAILED with the folder that does not
 */
export function assertReachable(path: string, user: RunAs): void {
  for (let folder = dirname(path); ; folder = dirname(folder)) {
    const { mode, uid, gid } = statSync(folder);
    const needed = uid === user.uid ? 0o100 : gid === user.gid ? 0o010 : 0o001;
    if ((mode & needed) === 0) {
      throw new ServiceError(
        "DATABASE_EMBEDDED_FAILED",
        `PostgreSQL does not run as root, and the user nobody cannot pass ${folder} on the way to ${path}: start the service as another user, choose another folder, or allow passage (chmod o+x)`,
      );
    }
    if (folder === join(folder, "..")) return;
  }
}

/** Far beyond what any disk needs. */
const INITDB_TIMEOUT_MS = 120_000;

function flushFolder(folder: string): void {
  const file = openSync(folder, "r");
  try {
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
}
