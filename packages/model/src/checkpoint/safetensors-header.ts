import { z } from "zod";
import { CheckpointError } from "../errors.ts";
import { parseStrictJson } from "./strict-json.ts";

/**
 * The header of a safetensors file: eight bytes of header length (little-endian), a JSON object that places every
 * tensor, then the tensors' bytes (https://github.com/huggingface/safetensors, "Format").
 */

/** As in the reference reader: a larger header is an attempt to exhaust memory. */
export const MAX_HEADER_BYTES = 100_000_000;

/** Bytes per element of the dtypes the format knows. */
const DTYPE_BYTES = {
  BOOL: 1,
  U8: 1,
  I8: 1,
  F8_E4M3: 1,
  F8_E5M2: 1,
  U16: 2,
  I16: 2,
  F16: 2,
  BF16: 2,
  U32: 4,
  I32: 4,
  F32: 4,
  U64: 8,
  I64: 8,
  F64: 8,
} as const;

export type SafetensorsDtype = keyof typeof DTYPE_BYTES;

/** Where a tensor lies. `offset` counts from the start of the file. */
export interface TensorEntry {
  readonly name: string;
  readonly dtype: SafetensorsDtype;
  readonly shape: readonly number[];
  readonly offset: number;
  readonly byteLength: number;
}

const size = z.int().min(0);
const entrySchema = z.strictObject({
  dtype: z.enum(Object.keys(DTYPE_BYTES) as [SafetensorsDtype, ...SafetensorsDtype[]]),
  shape: z.array(size).max(8),
  data_offsets: z.tuple([size, size]),
});
const metadataSchema = z.record(z.string(), z.string());

/**
 * Check a header against the file it came from: every tensor in range, none overlapping, no bytes left unclaimed.
 *
 * @param json - the header's text, UTF-8
 * @param fileBytes - size of the whole file
 * @param file - its name, for messages
 * @returns tensors in file order
 * @throws CheckpointError CHECKPOINT_CORRUPT naming the tensor and what is wrong with it
 */
export function parseSafetensorsHeader(json: Uint8Array, fileBytes: number, file: string): TensorEntry[] {
  const corrupt = (what: string, cause?: unknown) =>
    new CheckpointError("CHECKPOINT_CORRUPT", `"${file}": ${what}`, { cause });
  let header: unknown;
  try {
    header = parseStrictJson(new TextDecoder("utf-8", { fatal: true }).decode(json));
  } catch (error) {
    throw corrupt(`the header is not valid JSON: ${(error as Error).message}`, error);
  }
  if (typeof header !== "object" || header === null || Array.isArray(header)) {
    throw corrupt("the header is not a JSON object");
  }

  const dataStart = 8 + json.byteLength;
  const entries: TensorEntry[] = [];
  for (const [name, value] of Object.entries(header)) {
    if (name === "__metadata__") {
      if (!metadataSchema.safeParse(value).success) throw corrupt("__metadata__ is not a map of strings");
      continue;
    }
    entries.push(parseEntry(name, value, dataStart, fileBytes, corrupt));
  }
  // A tensor without elements takes no room, so it sorts before the neighbour that starts where it stands.
  entries.sort((a, b) => a.offset - b.offset || a.byteLength - b.byteLength);

  let end = dataStart;
  let previous = "the header";
  for (const entry of entries) {
    if (entry.offset < end) throw corrupt(`tensor "${entry.name}" overlaps ${previous}`);
    if (entry.offset > end) throw corrupt(`${entry.offset - end} bytes before tensor "${entry.name}" belong to none`);
    end += entry.byteLength;
    previous = `tensor "${entry.name}"`;
  }
  if (end !== fileBytes) throw corrupt(`${fileBytes - end} bytes after ${previous} belong to no tensor`);
  return entries;
}

function parseEntry(
  name: string,
  value: unknown,
  dataStart: number,
  fileBytes: number,
  corrupt: (what: string) => CheckpointError,
): TensorEntry {
  const parsed = entrySchema.safeParse(value);
  if (!parsed.success) {
    const issue = parsed.error.issues[0];
    throw corrupt(`tensor "${name}": ${issue?.path.join(".")}: ${issue?.message}`);
  }
  const { dtype, shape, data_offsets } = parsed.data;
  const [begin, end] = data_offsets;
  const elements = shape.reduce((product, dimension) => product * dimension, 1);
  if (!Number.isSafeInteger(elements)) throw corrupt(`tensor "${name}": shape [${shape}] has too many elements`);
  if (end < begin || dataStart + end > fileBytes) {
    throw corrupt(
      `tensor "${name}": bytes ${begin}..${end} are not within the file's ${Math.max(0, fileBytes - dataStart)} bytes of data`,
    );
  }
  if (end - begin !== elements * DTYPE_BYTES[dtype]) {
    throw corrupt(
      `tensor "${name}": ${dtype} [${shape}] takes ${elements * DTYPE_BYTES[dtype]} bytes, not ${end - begin}`,
    );
  }
  return { name, dtype, shape, offset: dataStart + begin, byteLength: end - begin };
}
