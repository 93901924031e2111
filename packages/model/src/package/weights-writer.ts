import { createHash } from "node:crypto";
import type { FileHandle } from "node:fs/promises";
import type { Checkpoint } from "../checkpoint/checkpoint.ts";
import type { PlannedWeight, WeightLocation } from "../graph/index.ts";
import { type ModelManifest, WEIGHT_ALIGNMENT } from "./manifest.ts";
import { transposeInto } from "./transpose.ts";

type WrittenWeight = ModelManifest["weights"][number];

/** One write call moves at most this much; between writes an abort is seen. */
const WRITE_BYTES = 64 * 1024 * 1024;

/** Places for the planned tensors, one after the other, each aligned to {@link WEIGHT_ALIGNMENT}. */
export function placeWeights(plan: readonly PlannedWeight[]): WeightLocation[] {
  let end = 0;
  return plan.map(({ name, shape }) => {
    const offset = Math.ceil(end / WEIGHT_ALIGNMENT) * WEIGHT_ALIGNMENT;
    const byteLength = 4 * elements(shape);
    end = offset + byteLength;
    return { name, dtype: "float32", shape, offset, byteLength };
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
  if ("computed" in planned) return checked(planned, planned.computed);
  if (planned.layout === "as-is") {
    const [source, ...more] = planned.sources;
    if (source === undefined || more.length > 0) throw new Error(`${planned.name}: "as-is" takes one source`);
    return checked(planned, await checkpoint.read(source, signal));
  }
  const [rows = 0, columns = 0] = planned.shape;
  const values = new Float32Array(rows * columns);
  let column = 0;
  for (const source of planned.sources) {
    const part = await checkpoint.read(source, signal);
    const width = part.length / rows;
    if (!Number.isInteger(width) || column + width > columns) {
      throw new Error(`${planned.name}: source ${source} does not fit [${planned.shape}]`);
    }
    transposeInto(part, width, rows, values, columns, column);
    column += width;
  }
  if (column !== columns) throw new Error(`${planned.name}: sources fill ${column} of ${columns} columns`);
  return values;
}

function checked(planned: PlannedWeight, values: Float32Array): Float32Array {
  if (values.length !== elements(planned.shape)) {
    throw new Error(`${planned.name}: ${values.length} values for shape [${planned.shape}]`);
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
