import { readdir, readFile, realpath } from "node:fs/promises";
import { sep } from "node:path";

/** Which processes have files of a directory mapped into memory, as far as the system tells. */
export type MappedBy =
  | { readonly kind: "known"; readonly pids: readonly number[] }
  /** The system does not tell. */
  | { readonly kind: "unknown" };

/**
 * Ask Linux which processes map files of a directory: a worker maps its weights for as long as it lives.
 *
 * Processes of other users, and of other containers, are not seen. A few milliseconds.
 *
 * @param directory - any path to it
 */
export async function processesThatMap(directory: string): Promise<MappedBy> {
  if (process.platform !== "linux") return { kind: "unknown" };
  // The list has real paths, one a line, the last field of it.
  const inside = ` ${await realpath(directory)}${sep}`;
  const pids: number[] = [];
  for (const name of await readdir("/proc").catch(() => [])) {
    if (!/^\d+$/.test(name)) continue;
    // A process that has ended, or is somebody else's.
    const maps = await readFile(`/proc/${name}/maps`, "utf8").catch(() => "");
    if (maps.includes(inside)) pids.push(Number(name));
  }
  return { kind: "known", pids };
}
