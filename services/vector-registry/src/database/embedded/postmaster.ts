import { closeSync, constants, existsSync, openSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { ServiceError } from "@persona-mesh/service";
import { commandOf, endedPid } from "./processes.ts";

/** What PostgreSQL says of itself in its lock file. */
export interface Postmaster {
  readonly pid: number;
  readonly socketFolder: string;
  readonly ready: boolean;
}

/** The server that runs on a data folder; undefined when none does, whatever an old lock file says. */
export function runningPostmaster(dataFolder: string): Postmaster | undefined {
  const lines = readLockFile(dataFolder);
  if (lines === undefined) return undefined;
  // Lines: pid, data folder, start, port, socket folder, address, shared memory, state.
  const pid = Number(lines[0]);
  if (!isPostmasterOf(pid, dataFolder)) return undefined;
  return { pid, socketFolder: lines[4] ?? "", ready: lines[7]?.trim() === "ready" };
}

/**
 * Leave no server on the data folder: one that outlived its owner is shut down, by its own number and after a look at its
 * command line. A lock file whose number now belongs to a stranger is given a dead number, because PostgreSQL refuses to
 * start beside it; the rest of the file stays, as PostgreSQL finds orphaned sessions by it.
 */
export async function clearDataFolder(dataFolder: string): Promise<void> {
  const orphan = runningPostmaster(dataFolder);
  if (orphan !== undefined) await endPostmaster(orphan.pid, dataFolder);
  const lines = readLockFile(dataFolder);
  if (lines === undefined || commandOf(Number(lines[0])) === undefined) return;
  // The folder is the server's user's: root follows no link that lies there.
  const file = openSync(join(dataFolder, LOCK_FILE), constants.O_WRONLY | constants.O_TRUNC | constants.O_NOFOLLOW);
  try {
    writeFileSync(file, [endedPid(), ...lines.slice(1)].join("\n"));
  } finally {
    closeSync(file);
  }
}

/** Where the server that last ran on a data folder, and did not end by itself, had its socket. */
export function abandonedSocketFolder(dataFolder: string): string | undefined {
  return readLockFile(dataFolder)?.[4] || undefined;
}

/** End a server: fast shutdown first, without a checkpoint when that takes too long. */
export async function endPostmaster(pid: number, dataFolder: string): Promise<void> {
  for (const [signal, patienceMs] of ENDINGS) {
    if (!isPostmasterOf(pid, dataFolder)) return;
    signalQuietly(pid, signal);
    const deadline = performance.now() + patienceMs;
    while (performance.now() < deadline) {
      if (!isPostmasterOf(pid, dataFolder)) return;
      await delay(POLL_MS);
    }
  }
  throw new ServiceError("DATABASE_EMBEDDED_FAILED", `the old PostgreSQL process ${pid} does not end`);
}

const LOCK_FILE = "postmaster.pid";
const ENDINGS = [
  ["SIGINT", 10_000],
  ["SIGQUIT", 5_000],
  ["SIGKILL", 5_000],
] as const;
/** How often files and processes are looked at while a server starts or ends. */
export const POLL_MS = 10;

function readLockFile(dataFolder: string): string[] | undefined {
  const path = join(dataFolder, LOCK_FILE);
  if (!existsSync(path)) return undefined;
  try {
    return readFileSync(path, "utf8").split("\n");
  } catch {
    // Removed between the two.
    return undefined;
  }
}

function isPostmasterOf(pid: number, dataFolder: string): boolean {
  if (!Number.isInteger(pid) || pid <= 1) return false;
  const command = commandOf(pid) ?? "";
  return command.includes("postgres") && `${command} `.includes(`${markOf(dataFolder)} `);
}

/**
 * A setting without effect, by which the command line of a server says whose it is: the data folder that it is told may be
 * the kernel's name for it.
 */
export function markOf(dataFolder: string): string {
  return `persona.folder=${dataFolder}`;
}

function signalQuietly(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch {
    // It ended first.
  }
}
