import { fork } from "node:child_process";
import { once } from "node:events";
import { readFileSync, statfsSync } from "node:fs";
import { join } from "node:path";
import { readManifest } from "@persona-mesh/model";
import { PRECISION_NAMES, type PrecisionName } from "@persona-mesh/model/graph";
import { atMost, context, type Figure } from "../figure.ts";
import { largeLlama, writeSyntheticCheckpoint } from "../models/synthetic-checkpoint.ts";
import type { Bench, BenchContext } from "./bench.ts";

/** What the child process does. */
export type ImportStep =
  | {
      readonly kind: "import";
      readonly checkpoint: string;
      readonly directory: string;
      readonly precision: PrecisionName;
    }
  | { readonly kind: "verify"; readonly directory: string };

/** How often the child's private memory is looked at; the kernel keeps the peak of all resident memory itself. */
const SAMPLE_MILLIS = 20;

/** Of the bound on memory: three times the largest tensor, and this. */
const FIXED_BYTES = 500e6;

/** Bytes of the package for each of a bfloat16 checkpoint, rounded up. */
const PACKAGE_SHARE: Readonly<Record<PrecisionName, number>> = { float32: 2.1, bfloat16: 1.1, int8: 0.65, int4: 0.5 };

export const importBench: Bench = {
  name: "import",
  description: "import of a large checkpoint, made on the spot: memory, speed, recognition, verification",
  options: {
    gigabytes: { description: "size of the checkpoint, bfloat16", default: "8" },
    precision: { description: `of the package: ${PRECISION_NAMES.join(", ")}`, default: "int4" },
  },
  run: async (bench) => {
    const gigabytes = Number(bench.options["gigabytes"]);
    const precision = PRECISION_NAMES.find((name) => name === bench.options["precision"]);
    if (!(gigabytes >= 2) || precision === undefined) {
      throw new Error(`--gigabytes is a number from 2 on, --precision one of ${PRECISION_NAMES.join(", ")}`);
    }
    requireSpace(bench.directory, gigabytes * 1e9 * (1 + PACKAGE_SHARE[precision]));
    return measure(gigabytes, precision, bench);
  },
};

async function measure(
  gigabytes: number,
  precision: PrecisionName,
  { directory, onProgress }: BenchContext,
): Promise<Figure[]> {
  onProgress(`writing a checkpoint of ${gigabytes} GB`);
  const written = throttled(onProgress);
  const source = await writeSyntheticCheckpoint(join(directory, "checkpoint"), largeLlama(gigabytes * 1e9), written);
  const out = join(directory, "package");
  const step: ImportStep = { kind: "import", checkpoint: source.directory, directory: out, precision };
  const created = await inChild(step, "created");
  onProgress("the same again");
  const unchanged = await inChild(step, "unchanged");
  onProgress("verifying");
  const verified = await inChild({ kind: "verify", directory: out }, "verified");
  const { weightBytes } = await readManifest(out);

  const megabytes = (bytes: number) => bytes / 1e6;
  const bound = megabytes(3 * source.largestTensorBytes + FIXED_BYTES);
  return [
    context("checkpoint", source.bytes / 1e9, "GB"),
    context("layers", source.layers, ""),
    context("largest tensor", megabytes(source.largestTensorBytes), "MB"),
    context(`package, ${precision}`, weightBytes / 1e9, "GB"),
    context("import", created.seconds, "s"),
    context("import: checkpoint read", source.bytes / 1e9 / created.seconds, "GB/s"),
    atMost("import: peak resident memory", megabytes(created.peakResident), "MB", Math.round(bound)),
    context("import: peak private memory", megabytes(created.peakPrivate), "MB"),
    context("the same again, unchanged", unchanged.seconds, "s"),
    atMost("the same again: peak resident memory", megabytes(unchanged.peakResident), "MB", Math.round(bound)),
    context("verify", verified.seconds, "s"),
    context("verify: package read", weightBytes / 1e9 / verified.seconds, "GB/s"),
    context("verify: peak resident memory", megabytes(verified.peakResident), "MB"),
  ];
}

interface StepResult {
  readonly seconds: number;
  /** Highest that all resident memory was, files that are mapped included, bytes. The page cache is not part of it. */
  readonly peakResident: number;
  /** Highest that memory without files was, bytes, sampled. */
  readonly peakPrivate: number;
}

async function inChild(step: ImportStep, expected: string): Promise<StepResult> {
  const child = fork(new URL("./import-child.ts", import.meta.url), { stdio: ["ignore", "inherit", "inherit", "ipc"] });
  const kill = () => child.kill("SIGKILL");
  // Before the folder is removed, which the child would go on writing to.
  process.prependOnceListener("exit", kill);
  let peakPrivate = 0;
  const sampling = setInterval(() => {
    peakPrivate = Math.max(peakPrivate, statusBytes(child.pid, "RssAnon"));
  }, SAMPLE_MILLIS);
  try {
    child.send(step);
    const [message] = (await Promise.race([
      once(child, "message"),
      once(child, "exit").then(([code]) => {
        throw new Error(`the importing process ended with ${code}`);
      }),
    ])) as [{ outcome: string; seconds: number }];
    if (message.outcome !== expected) throw new Error(`the import was ${message.outcome}, not ${expected}`);
    return { seconds: message.seconds, peakResident: statusBytes(child.pid, "VmHWM"), peakPrivate };
  } finally {
    clearInterval(sampling);
    process.off("exit", kill);
    kill();
  }
}

/** A field of /proc/PID/status; 0 once the process has gone. */
function statusBytes(pid: number | undefined, field: string): number {
  try {
    const status = readFileSync(`/proc/${pid}/status`, "utf8");
    return Number(new RegExp(`^${field}:\\s+(\\d+) kB$`, "m").exec(status)?.[1] ?? 0) * 1024;
  } catch {
    return 0;
  }
}

function requireSpace(directory: string, bytes: number): void {
  const { bavail, bsize } = statfsSync(directory);
  const free = bavail * bsize;
  if (free > bytes) return;
  const gigabytes = (value: number) => (value / 1e9).toFixed(1);
  throw new Error(
    `this needs ${gigabytes(bytes)} GB, and ${gigabytes(free)} are free in ${directory}; TMPDIR chooses another disk`,
  );
}

/** Every gigabyte or so. */
function throttled(onProgress: (text: string) => void): (done: number, total: number) => void {
  let next = 1e9;
  return (done, total) => {
    if (done < next && done < total) return;
    next = done + 1e9;
    onProgress(`${(done / 1e9).toFixed(1)} of ${(total / 1e9).toFixed(1)} GB written`);
  };
}
