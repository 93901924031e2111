import type { ElementType } from "../graph/index.ts";

/** One tensor in a weights file: little-endian, row-major, raw. */
export interface WeightEntry {
  /** Name of the initializer in every graph that uses it. */
  readonly name: string;
  readonly type: ElementType;
  readonly shape: readonly number[];
  /** Bytes from the start of the file, a multiple of {@link WEIGHT_ALIGNMENT}. */
  readonly offset: number;
  readonly byteLength: number;
}

/** Alignment of every tensor in a weights file, in bytes: a cache line, and what the widest vector loads want. */
export const WEIGHT_ALIGNMENT = 64;
