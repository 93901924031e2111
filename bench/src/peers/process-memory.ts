import { readFileSync } from "node:fs";

/** Memory of a process, bytes. */
export interface ProcessMemory {
  /** All that is in memory, files that are mapped included. */
  readonly resident: number;
  /** Of it what no file backs: the kernel cannot drop it and read it again. */
  readonly anonymous: number;
}

/** @throws where the kernel does not tell (only Linux does) or the process has gone */
export function processMemory(pid: number): ProcessMemory {
  const rollup = readFileSync(`/proc/${pid}/smaps_rollup`, "utf8");
  const bytes = (field: string) => {
    const [, kilobytes] = new RegExp(`^${field}:\\s+(\\d+) kB$`, "m").exec(rollup) ?? [];
    if (kilobytes === undefined) throw new Error(`the kernel does not tell ${field} of process ${pid}`);
    return Number(kilobytes) * 1024;
  };
  return { resident: bytes("Rss"), anonymous: bytes("Anonymous") };
}
