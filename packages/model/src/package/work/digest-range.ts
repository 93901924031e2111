import { createHash } from "node:crypto";
import { CHUNK_BYTES, type OpenFiles, readAt } from "./file-access.ts";
import type { Scratch } from "./scratch.ts";

/** Hash part of a file. */
export interface DigestTask {
  readonly kind: "digest";
  readonly path: string;
  /** Bytes from the start of the file. */
  readonly offset: number;
  readonly byteLength: number;
  /** Bytes behind the part that are looked at too: padding, which must be zeros. */
  readonly padding: number;
}

export interface DigestResult {
  /** sha256 of the part, hexadecimal; of what there is of it where the file is shorter. */
  readonly sha256: string;
  /** Bytes read, padding not counted. */
  readonly bytes: number;
  /** Whether the padding is all zeros; also false where the file ends within it. */
  readonly padded: boolean;
}

export async function digestRange(
  task: DigestTask,
  { files, scratch }: { readonly files: OpenFiles; readonly scratch: Scratch },
  onBytes: (bytes: number) => void,
): Promise<DigestResult> {
  const file = await files.reading(task.path);
  const hash = createHash("sha256");
  const buffer = scratch.bytes("source", Math.min(CHUNK_BYTES, Math.max(task.byteLength, task.padding)));
  let bytes = 0;
  while (bytes < task.byteLength) {
    const wanted = buffer.subarray(0, Math.min(buffer.byteLength, task.byteLength - bytes));
    const length = await readAt(file, wanted, task.offset + bytes);
    hash.update(wanted.subarray(0, length));
    bytes += length;
    onBytes(length);
    if (length < wanted.byteLength) break;
  }
  const padding = buffer.subarray(0, task.padding);
  const length = await readAt(file, padding, task.offset + task.byteLength);
  const padded = length === task.padding && padding.every((byte) => byte === 0);
  return { sha256: hash.digest("hex"), bytes, padded };
}
