import type { PlannedWeight } from "./weights-plan.ts";

/** A tensor of the weights file. */
export interface StoredTensor {
  readonly name: string;
  readonly dtype: "float32" | "bfloat16" | "uint8";
  readonly shape: readonly number[];
}

/** Bytes of an element of a stored tensor. */
export const STORED_BYTES: Readonly<Record<StoredTensor["dtype"], number>> = { float32: 4, bfloat16: 2, uint8: 1 };

/** Name of the scales that belong to a matrix of integers. */
export function scalesOf(matrix: string): string {
  return `${matrix}.scales`;
}

/**
 * The tensors of the weights file that hold a weight.
 *
 * A matrix of integers is `uint8[out, blocks, block · bits / 8]`, low nibble first, the last block filled up with zero
 * points, and scales `float32[out, blocks]`: as MatMulNBits reads them.
 */
export function storedTensors(weight: PlannedWeight): StoredTensor[] {
  if (weight.kind === "vector") {
    const length = weight.sources.reduce((sum, { shape }) => sum + (shape[0] ?? 0), 0);
    return [{ name: weight.name, dtype: "float32", shape: [length] }];
  }
  const { name, out, format } = weight;
  if (format.kind !== "nbits") {
    const shape = weight.layout === "rows" ? [out, weight.in] : [weight.in, out];
    return [{ name, dtype: format.kind, shape }];
  }
  const blocks = Math.ceil(weight.in / format.block);
  return [
    { name, dtype: "uint8", shape: [out, blocks, (format.block * format.bits) / 8] },
    { name: scalesOf(name), dtype: "float32", shape: [out, blocks] },
  ];
}
