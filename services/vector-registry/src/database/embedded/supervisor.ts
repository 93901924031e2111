import { type ChildProcess, spawn } from "node:child_process";
import type { RunAs } from "./run-as.ts";

/**
 * A running PostgreSQL under a shell that ends it when we do. The shell holds the reading end of a pipe whose writing
 * end only this process has: whether we close it or are killed, the shell reads its end and shuts the server down. The
 * session is its own, so that Ctrl-C reaches us and not the database before we have drained.
 */
export class Supervisor {
  /** Settles when server and shell have ended, with the server's exit code; 128 + signal when a signal ended it. */
  readonly ended: Promise<number>;
  readonly #child: ChildProcess;

  /**
   * @param command - the server and its arguments
   * @param options.folder - in which the server starts
   * @param options.output - file descriptor that takes what it writes
   * @param options.user - under whom it runs; undefined for ourselves
   * @param options.remove - folder that is removed when the server has ended, even if we are gone by then
   */
  constructor(
    command: readonly string[],
    options: { folder: string; output: number; user: RunAs | undefined; remove?: string },
  ) {
    const { folder, output, user, remove = "" } = options;
    this.#child = spawn("/bin/sh", ["-c", SCRIPT, "persona-postgres", ...command], {
      cwd: folder,
      detached: true,
      stdio: ["ignore", output, output, "pipe"],
      env: { PATH: process.env["PATH"] ?? "/usr/bin:/bin", LC_ALL: "C", REMOVE: remove },
      ...user,
    });
    // Reset when the shell dies first; there is nothing to do about it then.
    this.#child.stdio[3]?.on("error", () => undefined);
    this.ended = new Promise((resolve) => {
      this.#child.once("error", () => resolve(CANNOT_RUN));
      this.#child.once("exit", (code) => resolve(code ?? CANNOT_RUN));
    });
  }

  /** Ask for a fast shutdown: sessions are ended, transactions rolled back, everything is written. */
  stop(): void {
    this.#child.ref();
    this.#child.stdio[3]?.destroy();
  }

  /** Let this process end although the server runs; the server ends with it. */
  unref(): void {
    this.#child.unref();
    const pipe = this.#child.stdio[3];
    if (pipe !== null && pipe !== undefined && "unref" in pipe && typeof pipe.unref === "function") pipe.unref();
  }
}

/** The shell's convention for a command that could not be run. */
const CANNOT_RUN = 126;

/**
 * INT is PostgreSQL's fast shutdown. It is repeated because a server that has only been forked ignores it; after 10
 * seconds QUIT ends it without a checkpoint (the next start recovers), and at last KILL.
 */
const SCRIPT = `
"$@" 3<&- &
server=$!
{
  read -r _ <&3
  tries=0
  while kill -0 "$server" 2>/dev/null; do
    tries=$((tries + 1))
    if [ "$tries" -gt 150 ]; then kill -KILL "$server"
    elif [ "$tries" -gt 100 ]; then kill -QUIT "$server"
    else kill -INT "$server"
    fi
    sleep 0.1
  done
} >/dev/null 2>&1 &
watcher=$!
exec 3<&-
wait "$server"
code=$?
kill "$watcher" 2>/dev/null
[ -z "$REMOVE" ] || rm -rf -- "$REMOVE"
exit "$code"
`;
