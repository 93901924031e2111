import { createHash } from "node:crypto";
import type { DecoderSpec } from "../graph/decoder-spec.ts";
import type { TensorDigest } from "./checkpoint.ts";

/**
 * The identity of a model: sha256 over the sorted tensors (name, dtype, shape, sha256 of the bytes) and the config
 * fields that change what is computed.
 *
 * `contextTokens` is left out: it bounds how far the model is used, and no activation within the bound depends on it.
 *
 * @returns hexadecimal
 */
export function modelChecksum(spec: DecoderSpec, tensors: readonly TensorDigest[]): string {
  const { contextTokens: _, ...computation } = spec;
  const config = Object.entries(computation).sort(([a], [b]) => (a < b ? -1 : 1));
  const sorted = tensors
    .map(({ name, dtype, shape, sha256 }) => [name, dtype, shape, sha256])
    .sort(([a], [b]) => ((a as string) < (b as string) ? -1 : 1));
  // JSON frames every field, so that no two different lists give the same bytes.
  return createHash("sha256")
    .update(JSON.stringify({ version: 1, config, tensors: sorted }))
    .digest("hex");
}
