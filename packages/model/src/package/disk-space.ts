import { statfs } from "node:fs/promises";
import { dirname } from "node:path";
import { ModelPackageError } from "../errors.ts";

/** Beside the weights: graphs, tokenizer, manifest, and what the file system itself takes. */
const OTHER_BYTES = 64 * 1024 * 1024;

/**
 * Refuse to begin what cannot end.
 *
 * @param directory - where the package goes; it, and those above it, need not be there yet
 * @param weightsBytes - size of the weights file
 * @throws ModelPackageError MODEL_PACKAGE_NO_SPACE saying what is needed and what is free
 */
export async function requireSpace(directory: string, weightsBytes: number): Promise<void> {
  const free = await freeBytes(directory);
  const needed = weightsBytes + OTHER_BYTES;
  if (free >= needed) return;
  throw noSpace(
    `the package needs ${gigabytes(needed)}, and ${gigabytes(free)} are free where "${directory}" is to be`,
  );
}

/** What is thrown instead of an error that says the disk, or the user's share of it, is full. */
export function asNoSpace(error: unknown): unknown {
  const code = (error as NodeJS.ErrnoException | undefined)?.code;
  if (code !== "ENOSPC" && code !== "EDQUOT") return error;
  return noSpace(`the disk became full during the import (${code}); what was written has been removed`, error);
}

async function freeBytes(directory: string): Promise<number> {
  for (let at = directory; ; at = dirname(at)) {
    try {
      const { bavail, bsize } = await statfs(at);
      return bavail * bsize;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ENOENT" || at === dirname(at)) throw error;
    }
  }
}

function noSpace(message: string, cause?: unknown): ModelPackageError {
  return new ModelPackageError("MODEL_PACKAGE_NO_SPACE", message, { cause });
}

function gigabytes(bytes: number): string {
  return `${(bytes / 1e9).toFixed(2)} GB`;
}
