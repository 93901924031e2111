import { type ChildProcess, execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { chmod, mkdir, mkdtemp } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";

const run = promisify(execFile);

/** Room for the database and what it writes in a run, and little more. */
const DISK_SIZE = "768m";

/**
 * Everything that a run leaves in the file system, and the way it goes again: a shell that outlives us takes it away, when
 * we are done as well as when we are killed.
 */
export class ScratchFolder implements AsyncDisposable {
  readonly path: string;
  readonly #remover: ChildProcess;

  static async open(): Promise<ScratchFolder> {
    const path = await mkdtemp(join(tmpdir(), "persona-storm-"));
    const scratch = new ScratchFolder(path);
    // PostgreSQL runs as somebody else where we are root, and must get at what lies inside.
    await chmod(path, 0o711);
    return scratch;
  }

  private constructor(path: string) {
    this.path = path;
    // A session of its own: Ctrl-C in a terminal reaches us alone.
    this.#remover = spawn("/bin/sh", ["-c", REMOVER, "persona-storm", path, join(path, DISK)], {
      stdio: ["pipe", "ignore", "ignore"],
      detached: true,
    });
    this.#remover.stdin?.on("error", () => {});
    this.#remover.unref();
  }

  /**
   * A folder on a small file system in memory, so that a full disk can be had without filling this machine's.
   *
   * @returns undefined where we may not mount one: that takes root
   */
  async mountDisk(): Promise<string | undefined> {
    const path = join(this.path, DISK);
    await mkdir(path);
    try {
      await run("mount", ["-t", "tmpfs", "-o", `size=${DISK_SIZE},mode=0711`, "persona-robustness", path]);
    } catch {
      return undefined;
    }
    return path;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const removed = once(this.#remover, "exit");
    this.#remover.ref();
    this.#remover.stdin?.end("done\n");
    await removed;
  }
}

const DISK = "disk";

/** Where no word comes before the end, we were killed: what we started ends by itself then, and needs a moment. */
const REMOVER = `
trap '' INT TERM HUP
read -r _ || sleep 15
tries=0
while [ -e "$1" ] && [ "$tries" -lt 100 ]; do
  umount -l "$2" 2>/dev/null
  rm -rf -- "$1" 2>/dev/null || sleep 0.1
  tries=$((tries + 1))
done
`;
