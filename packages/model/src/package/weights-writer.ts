import { open } from "node:fs/promises";
import type { Checkpoint } from "../checkpoint/checkpoint.ts";
import { type PlannedWeight, storedTensors, type WeightLocation } from "../graph/index.ts";
import { BackgroundSync } from "./background-sync.ts";
import type { ModelManifest } from "./manifest.ts";
import { weightsFileBytes } from "./weights-layout.ts";
import type { ConvertTask } from "./work/convert-weight.ts";
import { type RunTasksOptions, runTasks } from "./work/run-tasks.ts";

export interface WriteWeightsOptions extends Pick<RunTasksOptions<ConvertTask>, "threads" | "threadsFrom" | "signal"> {
  /** Memory for buffers, bytes; one weight at a time is converted whatever it takes. */
  readonly memory: number;
  /** Called with the bytes of the checkpoint that each step read. */
  readonly onBytes?: (bytes: number) => void;
}

/**
 * Write the planned weights to their places in a new file, little-endian, zeros between them. What was read of the
 * checkpoint is recorded there.
 *
 * @param path - of the file, which must not be there
 * @returns the places with the digests of what was written there
 * @throws CheckpointError naming the tensor that cannot be converted; what the file system throws
 */
export async function writeWeights(
  path: string,
  plan: readonly PlannedWeight[],
  locations: readonly WeightLocation[],
  checkpoint: Checkpoint,
  options: WriteWeightsOptions,
): Promise<ModelManifest["weights"]> {
  await using file = await open(path, "wx");
  // A hole reads as zeros, so that padding need not be written.
  await file.truncate(weightsFileBytes(locations));
  await using sync = new BackgroundSync(file);
  const tasks = conversions(path, plan, locations, checkpoint);
  const results = await runTasks(tasks, {
    ...options,
    onDone: (index) => sync.wrote(storedBytes(tasks[index] as ConvertTask)),
  });
  await sync.finish();
  const digests = results.flatMap(({ sources, stored }, index) => {
    for (const [at, sha256] of sources.entries()) {
      checkpoint.record((tasks[index] as ConvertTask).sources[at]?.name as string, sha256);
    }
    return stored;
  });
  return locations.map((location, index) => ({
    ...location,
    shape: [...location.shape],
    sha256: digests[index] as string,
  }));
}

/** A task for each weight, in the plan's order. */
function conversions(
  target: string,
  plan: readonly PlannedWeight[],
  locations: readonly WeightLocation[],
  checkpoint: Checkpoint,
): ConvertTask[] {
  let next = 0;
  return plan.map((weight) => {
    const first = next;
    next += storedTensors(weight).length;
    return {
      kind: "convert",
      weight,
      sources: weight.sources.map(({ name }) => checkpoint.tensor(name)),
      target,
      places: locations.slice(first, next),
    };
  });
}

function storedBytes({ places }: ConvertTask): number {
  return places.reduce((sum, { byteLength }) => sum + byteLength, 0);
}
