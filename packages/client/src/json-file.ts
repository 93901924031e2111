import { readBoundedBytes } from "./binary-file.ts";
import { LocalError } from "./local-error.ts";

/** Largest file of samples read: 16,384 samples of 4 kB. */
export const MAX_SAMPLES_FILE_BYTES = 64 << 20;

/**
 * Parse a JSON file of bounded size.
 *
 * @throws LocalError FILE_NOT_FOUND, FILE_TOO_LARGE, FILE_INVALID
 */
export async function readJsonFile(path: string, maxBytes: number): Promise<unknown> {
  const text = await readBoundedFile(path, maxBytes);
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new LocalError("FILE_INVALID", `${path} is not JSON: ${(error as Error).message}`, { cause: error });
  }
}

/**
 * Read a UTF-8 file of bounded size.
 *
 * @throws LocalError FILE_NOT_FOUND, FILE_TOO_LARGE, FILE_INVALID
 */
export async function readBoundedFile(path: string, maxBytes: number): Promise<string> {
  const bytes = await readBoundedBytes(path, maxBytes);
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    throw new LocalError("FILE_INVALID", `${path} is not UTF-8`);
  }
}
