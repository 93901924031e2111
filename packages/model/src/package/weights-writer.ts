import { createHash } from "node:crypto";
import type { FileHandle } from "node:fs/promises";
import type { Checkpoint } from "../checkpoint/checkpoint.ts";
import { type PlannedWeight, STORED_BYTES, storedTensors, type WeightLocation } from "../graph/index.ts";
import { type ModelManifest, WEIGHT_ALIGNMENT } from "./manifest.ts";
import { transposeInto } from "./transpose.ts";

type WrittenWeight = ModelManifest["weights"][number];

/** One write call moves at most this much; between writes an abort is seen. */
const WRITE_BYTES = 64 * 1024 * 1024;

/** Places for the tensors of the planned weights, one after the other, each aligned to {@link WEIGHT_ALIGNMENT}. */
export function placeWeights(plan: readonly PlannedWeight[]): WeightLocation[] {
  let end = 0;
  return plan.flatMap(storedTensors).map((tensor) => {
    const offset = Math.ceil(end / WEIGHT_ALIGNMENT) * WEIGHT_ALIGNMENT;
    const byteLength = STORED_BYTES[tensor.dtype] * elements(tensor.shape);
    end = offset + byteLength;
    return { ...tensor, offset, byteLength };
  });
}

/**
 * Write the planned tensors to their places, little-endian, zeros between them.
 *
 * Holds one planned tensor and one source tensor at a time.
 *
 * @returns the places with the digest of what was written there, and the digest of the whole file
 */
export async function writeWeights(
  file: FileHandle,
  plan: readonly PlannedWeight[],
  locations: readonly WeightLocation[],
  checkpoint: Checkpoint,
  options: { signal?: AbortSignal; onTensor?: (name: string, bytes: number) => void } = {},
): Promise<{ weights: WrittenWeight[]; bytes: number; sha256: string }> {
  const { signal, onTensor } = options;
  const whole = createHash("sha256");
  const weights: WrittenWeight[] = [];
  let end = 0;
  for (const [index, planned] of plan.entries()) {
    const location = locations[index] as WeightLocation;
    const values = await materialize(planned, checkpoint, signal);
    const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
    const padding = new Uint8Array(location.offset - end);
    whole.update(padding).update(bytes);
    await writeAll(file, padding, end, signal);
    await writeAll(file, bytes, location.offset, signal);
    end = location.offset + location.byteLength;
    weights.push({
      ...location,
      shape: [...location.shape],
      sha256: createHash("sha256").update(bytes).digest("hex"),
    });
    onTensor?.(planned.name, bytes.byteLength);
  }
  return { weights, bytes: end, sha256: whole.digest("hex") };
}

/** Values of one planned tensor, in its shape, row-major. */
async function materialize(
  planned: PlannedWeight,
  checkpoint: Checkpoint,
  signal: AbortSignal | undefined,
): Promise<Float32Array> {
  if (planned.kind === "vector") {
    const parts: Float32Array[] = [];
    for (const { name } of planned.sources) parts.push(await checkpoint.read(name, signal));
    const values = Float32Array.from(parts.flatMap((part) => [...part]));
    return planned.plusOne ? values.map((value) => 1 + value) : values;
  }
  if (planned.format.kind !== "float32") throw new Error(`${planned.name}: no conversion to ${planned.format.kind}`);
  const values = new Float32Array(planned.in * planned.out);
  let row = 0;
  for (const { name, shape } of planned.sources) {
    const part = await checkpoint.read(name, signal);
    const rows = shape[0] as number;
    if (planned.layout === "rows") values.set(part, row * planned.in);
    else transposeInto(part, rows, planned.in, values, planned.out, row);
    row += rows;
  }
  return values;
}

async function writeAll(
  file: FileHandle,
  data: Uint8Array,
  position: number,
  signal: AbortSignal | undefined,
): Promise<void> {
  let done = 0;
  while (done < data.byteLength) {
    signal?.throwIfAborted();
    const length = Math.min(WRITE_BYTES, data.byteLength - done);
    done += (await file.write(data, done, length, position + done)).bytesWritten;
  }
}

function elements(shape: readonly number[]): number {
  return shape.reduce((product, dimension) => product * dimension, 1);
}
