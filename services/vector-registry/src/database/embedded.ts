import { randomBytes } from "node:crypto";
import {
  chownSync,
  closeSync,
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { ServiceError } from "@persona-mesh/service";
import { BINARIES_VERSION, findBinaries } from "./embedded/binaries.ts";
import { claim, OWNER_FILE } from "./embedded/claim.ts";
import { initCluster, SUPERUSER } from "./embedded/cluster.ts";
import { canPass, pathFor, reachableBinaries } from "./embedded/passage.ts";
import {
  abandonedSocketFolder,
  clearDataFolder,
  endPostmaster,
  markOf,
  POLL_MS,
  runningPostmaster,
} from "./embedded/postmaster.ts";
import { type RunAs, runAs } from "./embedded/run-as.ts";
import { Supervisor } from "./embedded/supervisor.ts";

export interface EmbeddedOptions {
  /** Holds data, password and log; made if missing. One server at a time runs on it. */
  readonly folder: string;
  /**
   * `durable` survives a power cut, as a store of record must; `scratch` survives a killed server but not a power cut,
   * for databases that are thrown away.
   * @default "durable"
   */
  readonly durability?: "durable" | "scratch";
  /** Remove the folder, which has to be empty now, when the server has ended; even if its owner was killed. @default false */
  readonly temporary?: boolean;
  /** Longest start, recovery after a crash included, in milliseconds. @default 60000 */
  readonly startTimeoutMs?: number;
}

/** A PostgreSQL of our own: serves this machine's processes over a Unix socket, and ends with its owner. */
export interface EmbeddedPostgres {
  /** Whether this process started the server. Another's server ends when that process does. */
  readonly owned: boolean;
  /** The server's process. */
  readonly pid: number;
  /** How long the start took, in milliseconds: making the cluster (0 when it was there), and serving. */
  readonly timings: { readonly initMs: number; readonly startMs: number };
  /** URL of a database, for a user whose password this server's folder holds. @default "postgres" for both */
  url(database?: string, user?: string): string;
  /** The password of a user, made when it is first asked for; whoever creates the user gives it to the server. */
  password(user: string): string;
  /** Settles when the server has ended, whoever ended it. Never for another's server. */
  readonly ended: Promise<number>;
  /** Fast shutdown, when it is ours. Further calls give the same promise. */
  close(): Promise<void>;
}

/**
 * Start PostgreSQL on a folder, or use the one that another living process started there. A server never outlives its
 * owner, not even one that is killed: see {@link Supervisor}. If it did (its shell was killed too), the next start ends it.
 *
 * @throws ServiceError DATABASE_EMBEDDED_FAILED
 */
export async function openEmbedded(options: EmbeddedOptions): Promise<EmbeddedPostgres> {
  const deadline = performance.now() + (options.startTimeoutMs ?? 60_000);
  mkdirSync(options.folder, { recursive: true, mode: 0o711 });
  const folder = realpathSync(options.folder);
  while (true) {
    const giveBack = claim(folder);
    if (giveBack !== undefined) {
      try {
        return await start(folder, options, giveBack, deadline);
      } catch (error) {
        giveBack();
        throw error;
      }
    }
    const running = runningPostmaster(join(folder, DATA));
    if (running?.ready) return attached(folder, running.pid, running.socketFolder);
    assertInTime(deadline, folder);
    await delay(ATTACH_POLL_MS);
  }
}

const DATA = "data";
const LOG = "postgres.log";
/** The port names the socket's file; nothing listens on TCP. */
const SOCKET_FILE = ".s.PGSQL.5432";
/** Longest path of a Unix socket: 103 bytes and a final zero on macOS, 107 on Linux. */
const MAX_SOCKET_PATH = 103;
/** The log starts anew at a start when it is larger than this; the one before is kept. */
const MAX_LOG_BYTES = 16 * 1024 * 1024;
const ATTACH_POLL_MS = 50;

async function start(
  folder: string,
  { durability = "durable", temporary = false }: EmbeddedOptions,
  giveBack: () => void,
  deadline: number,
): Promise<EmbeddedPostgres> {
  const user = runAs();
  if (temporary && readdirSync(folder).some((name) => !name.startsWith(OWNER_FILE))) {
    throw new ServiceError("DATABASE_EMBEDDED_FAILED", `${folder} is not empty, and would be removed with its server`);
  }
  // Who ends the server removes its folder.
  if (temporary && user !== undefined) chownSync(folder, user.uid, user.gid);
  const binaries = reachableBinaries(await findBinaries(), BINARIES_VERSION, user);
  const dataFolder = join(folder, DATA);
  await clearDataFolder(dataFolder);

  const initMs = initCluster(binaries, dataFolder, passwordOf(folder, SUPERUSER), user, durability === "durable");
  const begin = performance.now();
  const socketFolder = makeSocketFolder(folder, user);
  const marks = ["-D", pathFor(dataFolder, user), "-c", markOf(dataFolder)];
  const command = [binaries.postgres, ...marks, ...settings(socketFolder, durability)];
  let closing: Promise<void> | undefined;
  const end = async (pid: number, supervisor: Supervisor) => {
    supervisor.stop();
    await supervisor.ended;
    // The shell may have been killed before the server.
    if (runningPostmaster(dataFolder)?.pid === pid) await endPostmaster(pid, dataFolder);
    if (dirname(socketFolder) !== folder && abandonedSocketFolder(dataFolder) === undefined)
      rmSync(socketFolder, { recursive: true, force: true });
    giveBack();
    // The shell may not remove the folder itself where the one above is not its user's.
    if (temporary) rmSync(folder, { recursive: true, force: true });
  };
  while (true) {
    const output = openLog(folder);
    const supervisor = new Supervisor(command, {
      folder: dataFolder,
      output,
      user,
      ...(temporary ? { remove: folder } : {}),
    });
    closeSync(output);
    const pid = await untilReady(dataFolder, supervisor, deadline);
    if (pid !== undefined) {
      supervisor.unref();
      return {
        owned: true,
        pid,
        timings: { initMs, startMs: performance.now() - begin },
        ...access(folder, socketFolder),
        ended: supervisor.ended,
        close() {
          closing ??= end(pid, supervisor);
          return closing;
        },
      };
    }
    // Sessions of a killed server need a moment to see that it is gone, and PostgreSQL waits for none of them.
    if (!logTail(folder).includes("pre-existing shared memory block") || performance.now() > deadline) {
      throw failed(folder, "ended while it started");
    }
    await delay(ATTACH_POLL_MS);
  }
}

function attached(folder: string, pid: number, socketFolder: string): EmbeddedPostgres {
  return {
    owned: false,
    pid,
    timings: { initMs: 0, startMs: 0 },
    ...access(folder, socketFolder),
    ended: new Promise(() => undefined),
    close: () => Promise.resolve(),
  };
}

/** The server's process once it takes connections; undefined when it ended before. */
async function untilReady(dataFolder: string, supervisor: Supervisor, deadline: number): Promise<number | undefined> {
  let ended = false;
  supervisor.ended.then(() => {
    ended = true;
  });
  while (!ended) {
    const postmaster = runningPostmaster(dataFolder);
    if (postmaster?.ready) return postmaster.pid;
    if (performance.now() > deadline) {
      supervisor.stop();
      await supervisor.ended;
    }
    assertInTime(deadline, dirname(dataFolder));
    await delay(POLL_MS);
  }
  return undefined;
}

function settings(socketFolder: string, durability: "durable" | "scratch"): string[] {
  const durable = durability === "durable" ? "on" : "off";
  return Object.entries({
    listen_addresses: "",
    unix_socket_directories: socketFolder,
    unix_socket_permissions: "0700",
    max_connections: 100,
    shared_buffers: "64MB",
    max_wal_size: "512MB",
    fsync: durable,
    full_page_writes: durable,
    jit: "off",
    timezone: "UTC",
    log_timezone: "UTC",
    // Statements may hold what is nobody's business: their text never gets into the log.
    log_min_error_statement: "panic",
    log_error_verbosity: "terse",
    log_checkpoints: "off",
  }).flatMap(([name, value]) => ["-c", `${name}=${value}`]);
}

/** In the folder, if the path is short enough for a socket and the server gets there; else in a temporary one. */
function makeSocketFolder(folder: string, user: RunAs | undefined): string {
  const inside = join(folder, "run");
  const fits = Buffer.byteLength(join(inside, SOCKET_FILE)) <= MAX_SOCKET_PATH && canPass(inside, user);
  if (fits) mkdirSync(inside, { recursive: true, mode: 0o700 });
  // A killed server's comes to use again: whoever was connected finds the next one there.
  const abandoned = abandonedSocketFolder(join(folder, DATA));
  const socketFolder = fits
    ? inside
    : abandoned !== undefined && existsSync(abandoned)
      ? abandoned
      : mkdtempSync(join(shortTemporaryFolder(), "persona-pg-"));
  if (user !== undefined) chownSync(socketFolder, user.uid, user.gid);
  return socketFolder;
}

function shortTemporaryFolder(): string {
  const folder = tmpdir();
  return Buffer.byteLength(join(folder, "persona-pg-XXXXXX", SOCKET_FILE)) <= MAX_SOCKET_PATH ? folder : "/tmp";
}

function access(folder: string, socketFolder: string): Pick<EmbeddedPostgres, "url" | "password"> {
  return {
    password: (user) => passwordOf(folder, user),
    url(database = "postgres", user = SUPERUSER) {
      const credentials = `${encodeURIComponent(user)}:${encodeURIComponent(passwordOf(folder, user))}`;
      // The host before the path is never asked: the form needs one, and libpq knows the parameter too.
      return `postgresql://${credentials}@localhost/${encodeURIComponent(database)}?host=${encodeURIComponent(socketFolder)}`;
    },
  };
}

function passwordOf(folder: string, user: string): string {
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

function openLog(folder: string): number {
  const path = join(folder, LOG);
  if (existsSync(path) && statSync(path).size > MAX_LOG_BYTES) renameSync(path, `${path}.1`);
  return openSync(path, "a", 0o600);
}

function assertInTime(deadline: number, folder: string): void {
  if (performance.now() > deadline) throw failed(folder, "is not ready in time");
}

function failed(folder: string, what: string): ServiceError {
  return new ServiceError(
    "DATABASE_EMBEDDED_FAILED",
    `PostgreSQL in ${folder} ${what}; its words are in ${join(folder, LOG)}`,
    {
      cause: new Error(logTail(folder)),
    },
  );
}

/** The end of the server's log. */
function logTail(folder: string): string {
  const path = join(folder, LOG);
  return existsSync(path) ? readFileSync(path, "utf8").slice(-1_000).split("\n").slice(-6).join("; ") : "";
}
