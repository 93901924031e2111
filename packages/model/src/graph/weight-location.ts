import type { StoredTensor } from "./stored-tensors.ts";

/** Where a tensor lies in the package's weights file. */
export interface WeightLocation extends StoredTensor {
  /** Bytes from the start of the file. */
  readonly offset: number;
  readonly byteLength: number;
}
