import { stat } from "node:fs/promises";
import { basename } from "node:path";
import { ModelPackageError } from "../errors.ts";
import type { ModelManifest } from "./manifest.ts";
import { weightsFileBytes } from "./weights-layout.ts";
import type { DigestTask } from "./work/digest-range.ts";
import { type RunTasksOptions, runTasks } from "./work/run-tasks.ts";

/** Memory for all threads: seven of them, which read faster than any disk. */
const MEMORY_BYTES = 256 * 1024 * 1024;

/**
 * Check every byte of a weights file: each tensor against its digest, the padding between them against zeros.
 *
 * @param weights - in the order of their places, none overlapping
 * @throws ModelPackageError MODEL_PACKAGE_CORRUPT naming the tensor and both digests
 */
export async function verifyWeights(
  path: string,
  weights: ModelManifest["weights"],
  options: Pick<RunTasksOptions<DigestTask>, "threads" | "signal" | "onBytes"> = {},
): Promise<void> {
  const file = basename(path);
  const corrupt = (what: string) => new ModelPackageError("MODEL_PACKAGE_CORRUPT", `"${file}" ${what}`);
  const info = await stat(path).catch(() => undefined);
  if (!info?.isFile()) throw corrupt("is missing");
  const expected = weightsFileBytes(weights);
  if (info.size !== expected) throw corrupt(`has ${info.size} bytes, the manifest says ${expected}`);

  const tasks = weights.map(({ offset, byteLength }, index): DigestTask => {
    const next = weights[index + 1]?.offset ?? expected;
    return { kind: "digest", path, offset, byteLength, padding: next - offset - byteLength };
  });
  await runTasks(tasks, {
    ...options,
    memory: MEMORY_BYTES,
    // What throws here stops all threads.
    onDone: (index, { sha256, padded }) => {
      const weight = weights[index] as ModelManifest["weights"][number];
      if (sha256 !== weight.sha256) {
        throw corrupt(`is damaged: tensor "${weight.name}" has sha256 ${sha256}, the manifest says ${weight.sha256}`);
      }
      if (!padded) throw corrupt(`has bytes other than zero after tensor "${weight.name}", which belong to none`);
    },
  });
}
