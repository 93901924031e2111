import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import type { ModelManifest } from "./manifest.ts";

/**
 * sha256 over what is executed: the bytes of every graph by role, and every tensor of the weights file with its place and
 * its bytes.
 *
 * @param graphs - sha256 of each graph file, by role
 * @returns hexadecimal
 */
export function graphDigest(graphs: Readonly<Record<string, string>>, weights: ModelManifest["weights"]): string {
  return sha256Json({
    version: 1,
    graphs: sortedEntries(graphs),
    weights: weights.map(({ name, dtype, shape, offset, byteLength, sha256 }) => [
      name,
      dtype,
      shape,
      offset,
      byteLength,
      sha256,
    ]),
  });
}

/**
 * sha256 over how text becomes tokens and where replies end.
 *
 * @param files - sha256 of each tokenizer file, by name
 * @returns hexadecimal
 */
export function tokenizerDigest(files: Readonly<Record<string, string>>, tokens: ModelManifest["tokens"]): string {
  return sha256Json({ version: 1, files: sortedEntries(files), bos: tokens.bos, eos: tokens.eos });
}

/** Size and sha256 of a file, read as a stream. */
export async function fileDigest(path: string, signal?: AbortSignal): Promise<{ bytes: number; sha256: string }> {
  const hash = createHash("sha256");
  let bytes = 0;
  const stream = createReadStream(path, { highWaterMark: 4 * 1024 * 1024, ...(signal && { signal }) });
  for await (const chunk of stream as AsyncIterable<Buffer>) {
    hash.update(chunk);
    bytes += chunk.byteLength;
  }
  return { bytes, sha256: hash.digest("hex") };
}

export function sha256Hex(data: Uint8Array | string): string {
  return createHash("sha256").update(data).digest("hex");
}

/** JSON frames every field, so that no two different values give the same bytes. */
function sha256Json(value: unknown): string {
  return sha256Hex(JSON.stringify(value));
}

function sortedEntries(record: Readonly<Record<string, string>>): [string, string][] {
  return Object.entries(record).sort(([a], [b]) => (a < b ? -1 : 1));
}
