import { readFileSync } from "node:fs";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { libC } from "../lib-c.ts";

setFlagsFromString("--expose-gc");
const collectGarbage = runInNewContext("gc") as () => void;

/** Collections, with a turn of the event loop in between, after which what can be freed is freed. */
const COLLECTIONS = 5;

/** Private memory of this process that is resident and in use, in bytes: without garbage and free heap. Linux only. */
export async function privateBytes(): Promise<number> {
  for (let collection = 0; collection < COLLECTIONS; collection++) {
    collectGarbage();
    // Buffers are swept on another thread, and finalizers of native objects run on a later turn.
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  libC().mallocTrim?.(0);
  return statusBytes("RssAnon");
}

/** Pages of mapped files that are resident in this process, in bytes. Linux only. */
export function mappedBytes(): number {
  return statusBytes("RssFile");
}

function statusBytes(field: string): number {
  const match = new RegExp(`^${field}:\\s+(\\d+) kB`, "m").exec(readFileSync("/proc/self/status", "utf8"));
  return Number(match?.[1]) * 1024;
}
