import { resolve } from "node:path";
import { z } from "zod";
import { readBoundedBytes } from "../../binary-file.ts";
import { LocalError } from "../../local-error.ts";

/** A vector file of every layer of a wide model. */
const MAX_NORMS_FILE_BYTES = 64 << 20;

const norms = z.array(z.number().positive().finite()).min(1).max(512);

/**
 * Reference norms of every layer of a model, in order: a JSON array of numbers, or a vector file with all layers, as
 * `persona vector extract --layers all` makes it.
 *
 * @throws LocalError FILE_NOT_FOUND, FILE_TOO_LARGE, FILE_INVALID; SteeringError for a damaged vector file
 */
export async function readReferenceNorms(file: string, cwd: string): Promise<number[]> {
  const bytes = await readBoundedBytes(resolve(cwd, file), MAX_NORMS_FILE_BYTES);
  if (/^\s*\[/.test(Buffer.from(bytes.subarray(0, 64)).toString("latin1"))) return parseNorms(bytes, file);
  const { decodeVector } = await import("@persona-mesh/steering");
  const { manifest } = decodeVector(bytes);
  if (manifest.layers.length === manifest.layerCount) return [...manifest.referenceNorms];
  const has = `${manifest.layers.length} of ${manifest.layerCount} layers`;
  throw new LocalError("FILE_INVALID", `${file} has ${has}: make one with "vector extract --layers all"`);
}

function parseNorms(bytes: Uint8Array, file: string): number[] {
  try {
    return norms.parse(JSON.parse(Buffer.from(bytes).toString("utf8")));
  } catch (error) {
    throw new LocalError("FILE_INVALID", `${file} is not a JSON array of positive numbers`, { cause: error });
  }
}
