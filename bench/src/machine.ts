import { readFileSync } from "node:fs";
import { availableParallelism, cpus, totalmem } from "node:os";
import { runtimeVersion } from "@persona-mesh/onnx";

/** What the figures were measured on. */
export function machine(): Record<string, string | number> {
  return {
    processor: cpus()[0]?.model ?? "unknown",
    cores: availableParallelism(),
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    loadAverage: Number((readFileSync("/proc/loadavg", "utf8").split(" ")[0] ?? "0").trim()),
    node: process.version,
    onnxRuntime: runtimeVersion(),
  };
}

/** Resident memory of this process, bytes. */
export function residentBytes(): number {
  const line = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync("/proc/self/status", "utf8"));
  return Number(line?.[1]) * 1024;
}
