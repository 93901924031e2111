import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";

/** A process beyond its number, which the system gives again: number and time of its start. */
export interface ProcessIdentity {
  readonly pid: number;
  readonly started: string;
}

export function ownIdentity(): ProcessIdentity {
  return { pid: process.pid, started: startOf(process.pid) ?? "" };
}

export function isRunning({ pid, started }: ProcessIdentity): boolean {
  return started !== "" && startOf(pid) === started;
}

/** The command line of a process; undefined when there is none of this number. */
export function commandOf(pid: number): string | undefined {
  if (process.platform !== "linux") return ps(pid, "command");
  const command = read(`/proc/${pid}/cmdline`)?.replaceAll("\0", " ").trim();
  // A process that ended and waits for its parent has no command line any more.
  return command === "" ? undefined : command;
}

/** Number of a process that has just ended. */
export function endedPid(): number {
  return spawnSync("/bin/sh", ["-c", "exit 0"]).pid;
}

function startOf(pid: number): string | undefined {
  if (process.platform !== "linux") return ps(pid, "lstart");
  // Field 22 of proc(5), in clock ticks since boot; the name in field 2 may hold spaces and brackets.
  const stat = read(`/proc/${pid}/stat`);
  return stat?.slice(stat.lastIndexOf(")") + 2).split(" ")[19];
}

function ps(pid: number, column: string): string | undefined {
  const { stdout, status } = spawnSync("ps", ["-o", `${column}=`, "-p", String(pid)], { encoding: "utf8" });
  return status === 0 && stdout.trim() !== "" ? stdout.trim() : undefined;
}

function read(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return undefined;
  }
}
