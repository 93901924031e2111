import { chownSync, closeSync, mkdirSync, readdirSync, realpathSync, rmSync } from "node:fs";
import { dirname } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { ServiceError } from "@persona-mesh/service";
import { BINARIES_VERSION, findBinaries } from "./embedded/binaries.ts";
import { claim, OWNER_FILE } from "./embedded/claim.ts";
import { initCluster, SUPERUSER } from "./embedded/cluster.ts";
import {
  dataFolderOf,
  logOf,
  logTail,
  makeSocketFolder,
  openLog,
  passwordOf,
  removeSocketFolder,
} from "./embedded/folder.ts";
import { pathFor, reachableBinaries } from "./embedded/passage.ts";
import {
  abandonedSocketFolder,
  clearDataFolder,
  endPostmaster,
  markOf,
  POLL_MS,
  runningPostmaster,
} from "./embedded/postmaster.ts";
import { runAs } from "./embedded/run-as.ts";
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
    const running = runningPostmaster(dataFolderOf(folder));
    if (running?.ready) return attached(folder, running.pid, running.socketFolder);
    assertInTime(deadline, folder);
    await delay(ATTACH_POLL_MS);
  }
}

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
  const dataFolder = dataFolderOf(folder);
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
    // One that was killed leaves it for the next.
    if (abandonedSocketFolder(dataFolder) === undefined) removeSocketFolder(folder, socketFolder);
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
      removeSocketFolder(folder, socketFolder);
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
    // After a crash everything is flushed before recovery: the file system at once, not a thousand files.
    ...(process.platform === "linux" ? { recovery_init_sync_method: "syncfs" } : {}),
    jit: "off",
    timezone: "UTC",
    log_timezone: "UTC",
    // Statements may hold what is nobody's business: their text never gets into the log.
    log_min_error_statement: "panic",
    log_error_verbosity: "terse",
    log_checkpoints: "off",
  }).flatMap(([name, value]) => ["-c", `${name}=${value}`]);
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

function assertInTime(deadline: number, folder: string): void {
  if (performance.now() > deadline) throw failed(folder, "is not ready in time");
}

function failed(folder: string, what: string): ServiceError {
  return new ServiceError(
    "DATABASE_EMBEDDED_FAILED",
    `PostgreSQL in ${folder} ${what}; its words are in ${logOf(folder)}`,
    {
      cause: new Error(logTail(folder)),
    },
  );
}
