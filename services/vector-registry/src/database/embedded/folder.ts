import { randomBytes } from "node:crypto";
import {
  chownSync,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { canPass } from "./passage.ts";
import { abandonedSocketFolder } from "./postmaster.ts";
import type { RunAs } from "./run-as.ts";

/** What lies in the folder of an embedded server. */

export function dataFolderOf(folder: string): string {
  return join(folder, "data");
}

export function logOf(folder: string): string {
  return join(folder, "postgres.log");
}

/** The password of a user, made when it is first asked for; only who owns the folder reads it. */
export function passwordOf(folder: string, user: string): string {
  const path = join(folder, `${user}.password`);
  if (!existsSync(path)) {
    const mine = `${path}.${process.pid}`;
    writeFileSync(mine, randomBytes(24).toString("base64url"), { mode: 0o600, flush: true });
    try {
      // Whole or not at all, and the first of several wins.
      linkSync(mine, path);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
    } finally {
      rmSync(mine);
    }
  }
  return readFileSync(path, "utf8");
}

/** The log, to be written to by the server. */
export function openLog(folder: string): number {
  const path = logOf(folder);
  if (existsSync(path) && statSync(path).size > MAX_LOG_BYTES) renameSync(path, `${path}.1`);
  return openSync(path, "a", 0o600);
}

/** The end of the server's log. */
export function logTail(folder: string): string {
  const path = logOf(folder);
  return existsSync(path) ? readFileSync(path, "utf8").slice(-1_000).split("\n").slice(-6).join("; ") : "";
}

/** In the folder, if the path is short enough for a socket and the server gets there; else in a temporary one. */
export function makeSocketFolder(folder: string, user: RunAs | undefined): string {
  const inside = join(folder, "run");
  const fits = Buffer.byteLength(join(inside, SOCKET_FILE)) <= MAX_SOCKET_PATH && canPass(inside, user);
  if (fits) mkdirSync(inside, { recursive: true, mode: 0o700 });
  if (!fits) {
    // A killed server's comes to use again: whoever was connected finds the next one there.
    const abandoned = abandonedSocketFolder(dataFolderOf(folder));
    if (abandoned !== undefined && isSocketFolder(abandoned, user)) return abandoned;
  }
  const socketFolder = fits ? inside : mkdtempSync(join(shortTemporaryFolder(), SOCKET_FOLDER));
  if (user !== undefined) chownSync(socketFolder, user.uid, user.gid);
  return socketFolder;
}

/** Take a temporary one away. */
export function removeSocketFolder(folder: string, socketFolder: string): void {
  if (dirname(socketFolder) !== folder) rmSync(socketFolder, { recursive: true, force: true });
}

/** The lock file that names it is the server's to write: what it says is believed only of a folder such as we make. */
function isSocketFolder(path: string, user: RunAs | undefined): boolean {
  const found = lstatSync(path, { throwIfNoEntry: false });
  const ours = dirname(path) === shortTemporaryFolder() && basename(path).startsWith(SOCKET_FOLDER);
  return ours && found?.isDirectory() === true && found.uid === (user?.uid ?? process.getuid?.());
}

function shortTemporaryFolder(): string {
  const folder = tmpdir();
  return Buffer.byteLength(join(folder, `${SOCKET_FOLDER}XXXXXX`, SOCKET_FILE)) <= MAX_SOCKET_PATH ? folder : "/tmp";
}

const SOCKET_FOLDER = "persona-pg-";
/** The port names the socket's file; nothing listens on TCP. */
const SOCKET_FILE = ".s.PGSQL.5432";
/** Longest path of a Unix socket: 103 bytes and a final zero on macOS, 107 on Linux. */
const MAX_SOCKET_PATH = 103;
/** The log starts anew at a start when it is larger than this; the one before is kept. */
const MAX_LOG_BYTES = 16 * 1024 * 1024;
