import { open } from "node:fs/promises";
import { LocalError } from "./local-error.ts";

/**
 * The bytes of a file of bounded size.
 *
 * @throws LocalError FILE_NOT_FOUND, FILE_TOO_LARGE, FILE_INVALID
 */
export async function readBoundedBytes(path: string, maxBytes: number): Promise<Uint8Array> {
  await using file = await open(path, "r").catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") throw new LocalError("FILE_NOT_FOUND", `no such file: ${path}`, { cause: error });
    throw error;
  });
  const info = await file.stat();
  if (info.isDirectory()) throw new LocalError("FILE_INVALID", `${path} is a directory`);
  // A pipe or a device has no size to trust: one byte over the limit is asked for, and shows that there is more.
  const chunks: Buffer[] = [];
  let total = 0;
  for (;;) {
    const chunk = Buffer.allocUnsafe(Math.min(1 << 20, maxBytes + 1 - total));
    const { bytesRead } = await file.read(chunk, 0, chunk.length, null);
    if (bytesRead === 0) break;
    total += bytesRead;
    if (total > maxBytes) throw new LocalError("FILE_TOO_LARGE", `${path} is over ${maxBytes} bytes`);
    chunks.push(chunk.subarray(0, bytesRead));
  }
  return Buffer.concat(chunks);
}
