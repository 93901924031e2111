import { readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import type { ModelPackage } from "@persona-mesh/model";
import { type Logger, requireConfig } from "@persona-mesh/service";
import {
  DEFAULT_GUARD_POLICY,
  decodeGuardBaseline,
  type GuardBaseline,
  MAX_GUARD_BASELINE_BYTES,
  SteeringError,
} from "@persona-mesh/steering";
import { ServedBaseline } from "./served-baseline.ts";

/** Beside the model, where nothing else is configured. */
const FILE = "guard-baseline.json";

/**
 * The baseline of the model that is served, from the file that is configured or from the model's package. Says in the log what
 * the guard does without one.
 *
 * @throws ServiceError CONFIG_INVALID for a file that is missing, no baseline, or another model's
 */
export async function openBaseline(
  { manifest, directory }: Pick<ModelPackage, "manifest" | "directory">,
  configured: string | undefined,
  log: Logger,
): Promise<ServedBaseline> {
  const file = configured ?? join(directory, FILE);
  const text = await readBounded(file);
  if (text === undefined) {
    requireConfig(configured === undefined, "guardBaseline", `there is no file "${file}"`);
    log.warn({ file }, "no guard baseline: the guard watches repetition alone; `persona model baseline` measures one");
    return new ServedBaseline(undefined);
  }
  const baseline = decoded(text, file);
  const { modelChecksum, graphDigest } = manifest;
  requireConfig(
    baseline.modelChecksum === modelChecksum,
    "guardBaseline",
    `"${file}" was measured on model ${baseline.modelChecksum}, this worker serves ${modelChecksum}; measure it anew`,
  );
  const served = new ServedBaseline(baseline);
  const bands = served.temperatures.map((temperature) => ({ temperature, ...bandOf(served, temperature, file) }));
  log.info({ file, sameGraph: baseline.graphDigest === graphDigest, bands }, "guard baseline loaded");
  return served;
}

/** Computed here also so that the first requests of most tenants find it done. */
function bandOf(served: ServedBaseline, temperature: number, file: string) {
  return asConfig(file, () => served.for(DEFAULT_GUARD_POLICY, temperature))?.band;
}

function decoded(text: string, file: string): GuardBaseline {
  return asConfig(file, () => decodeGuardBaseline(text));
}

/** A bad baseline is a wrong configuration. */
function asConfig<T>(file: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (!(error instanceof SteeringError)) throw error;
    requireConfig(false, "guardBaseline", `"${file}": ${error.message}`);
    throw error;
  }
}

/** @returns undefined where there is no such file */
async function readBounded(file: string): Promise<string | undefined> {
  const info = await stat(file).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT" || error.code === "ENOTDIR") return undefined;
    throw error;
  });
  if (info === undefined) return undefined;
  requireConfig(info.isFile(), "guardBaseline", `"${file}" is not a file`);
  const most = MAX_GUARD_BASELINE_BYTES;
  requireConfig(info.size <= most, "guardBaseline", `"${file}" has ${info.size} bytes, at most ${most}`);
  return readFile(file, "utf8");
}
