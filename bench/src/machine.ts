import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { availableParallelism, cpus, totalmem } from "node:os";

/** What the figures were measured on. */
export function machine(): Record<string, string | number> {
  const require = createRequire(import.meta.url);
  const runtime = require("onnxruntime-node/package.json") as { version: string };
  return {
    processor: cpus()[0]?.model ?? "unknown",
    cores: availableParallelism(),
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    loadAverage: Number((readFileSync("/proc/loadavg", "utf8").split(" ")[0] ?? "0").trim()),
    node: process.version,
    onnxRuntime: runtime.version,
  };
}

/** Resident memory of this process, bytes. */
export function residentBytes(): number {
  const line = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync("/proc/self/status", "utf8"));
  return Number(line?.[1]) * 1024;
}
