import { type PlannedWeight, STORED_BYTES, storedTensors, type WeightLocation } from "../graph/index.ts";
import { WEIGHT_ALIGNMENT } from "./manifest.ts";

/** Places for the tensors of the planned weights, one after the other, each aligned to {@link WEIGHT_ALIGNMENT}. */
export function placeWeights(plan: readonly PlannedWeight[]): WeightLocation[] {
  let end = 0;
  return plan.flatMap(storedTensors).map(({ name, dtype, shape }) => {
    const offset = Math.ceil(end / WEIGHT_ALIGNMENT) * WEIGHT_ALIGNMENT;
    const byteLength = STORED_BYTES[dtype] * shape.reduce((product, dimension) => product * dimension, 1);
    end = offset + byteLength;
    return { name, dtype, shape, offset, byteLength };
  });
}

/** Size of the weights file: it ends with its last tensor. */
export function weightsFileBytes(weights: readonly WeightLocation[]): number {
  const last = weights.at(-1);
  return last === undefined ? 0 : last.offset + last.byteLength;
}
