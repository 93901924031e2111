import { CheckpointError } from "../errors.ts";
import { EMBEDDING, TIED_HEAD } from "./expected-tensors.ts";
import { readExactly } from "./file-reads.ts";
import type { WeightFiles } from "./weight-files.ts";

/** Bytes of each tensor that are compared at a time. */
const SLICE_BYTES = 4 * 1024 * 1024;

/**
 * Some tools save the output head beside the embedding that it is tied to. It may be left out if it says the same, byte for
 * byte.
 *
 * @throws CheckpointError CHECKPOINT_TENSOR_MISMATCH when it does not
 */
export async function refuseUntiedHead(weights: WeightFiles, signal?: AbortSignal): Promise<void> {
  const head = weights.tensors.get(TIED_HEAD);
  const embedding = weights.tensors.get(EMBEDDING);
  if (head === undefined || embedding === undefined) return;
  const [a, b] = [Buffer.alloc(SLICE_BYTES), Buffer.alloc(SLICE_BYTES)];
  let same = head.dtype === embedding.dtype && head.shape.join() === embedding.shape.join();
  for (let at = 0; same && at < head.byteLength; at += SLICE_BYTES) {
    const length = Math.min(SLICE_BYTES, head.byteLength - at);
    const [left, right] = [a.subarray(0, length), b.subarray(0, length)];
    await Promise.all([
      readExactly(weights.handle(head.path), left, head.offset + at, head.file, signal),
      readExactly(weights.handle(embedding.path), right, embedding.offset + at, embedding.file, signal),
    ]);
    same = left.equals(right);
  }
  if (same) return;
  throw new CheckpointError(
    "CHECKPOINT_TENSOR_MISMATCH",
    `"${head.file}": tensor "${TIED_HEAD}" differs from "${EMBEDDING}", to which config.json ties it`,
  );
}
