import type { FileHandle } from "node:fs/promises";
import { CheckpointError } from "../errors.ts";
import { openRegularFile, readExactly } from "./file-reads.ts";
import { quote } from "./quote.ts";
import { MAX_HEADER_BYTES, parseSafetensorsHeader, type TensorEntry } from "./safetensors-header.ts";

/**
 * A safetensors file, its header checked against its size.
 *
 * Owns the file handle; `close` it (or `await using`).
 */
export class SafetensorsFile {
  readonly name: string;
  readonly path: string;
  /** In file order. */
  readonly tensors: readonly TensorEntry[];
  /** For reading; closed with this object. */
  readonly handle: FileHandle;
  readonly #version: string;

  private constructor(handle: FileHandle, path: string, name: string, tensors: TensorEntry[], version: string) {
    this.handle = handle;
    this.path = path;
    this.name = name;
    this.tensors = tensors;
    this.#version = version;
  }

  /**
   * @param path - absolute, links resolved
   * @param name - the file's name, for messages
   * @throws CheckpointError CHECKPOINT_CORRUPT when the header or the layout is wrong
   */
  static async open(path: string, name: string): Promise<SafetensorsFile> {
    const handle = await openRegularFile(path, name);
    try {
      const version = await versionOf(handle);
      const tensors = await readHeader(handle, name);
      return new SafetensorsFile(handle, path, name, tensors, version);
    } catch (error) {
      await handle.close();
      throw error;
    }
  }

  /**
   * @throws CheckpointError CHECKPOINT_CORRUPT when the file has been written to, or another is in its place, since it was
   *   opened
   */
  async refuseChange(): Promise<void> {
    const again = await openRegularFile(this.path, this.name);
    try {
      if ((await versionOf(again)) === this.#version) return;
    } finally {
      await again.close();
    }
    throw new CheckpointError("CHECKPOINT_CORRUPT", `${quote(this.name)} changed while it was being imported`);
  }

  async close(): Promise<void> {
    await this.handle.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

/** What differs once a file is written to, or is another file. */
async function versionOf(file: FileHandle): Promise<string> {
  const { dev, ino, size, mtimeNs } = await file.stat({ bigint: true });
  return [dev, ino, size, mtimeNs].join();
}

async function readHeader(file: FileHandle, name: string): Promise<TensorEntry[]> {
  const { size } = await file.stat();
  const corrupt = (what: string) => new CheckpointError("CHECKPOINT_CORRUPT", `${quote(name)}: ${what}`);
  if (size < 8) throw corrupt(`${size} bytes cannot hold a safetensors header`);
  const prefix = new Uint8Array(8);
  await readExactly(file, prefix, 0, name);
  const headerBytes = new DataView(prefix.buffer).getBigUint64(0, true);
  if (headerBytes > MAX_HEADER_BYTES) {
    throw corrupt(`the header claims ${headerBytes} bytes, over the limit of ${MAX_HEADER_BYTES}`);
  }
  if (8 + Number(headerBytes) > size) throw corrupt(`the header claims ${headerBytes} bytes, the file has ${size}`);
  const json = new Uint8Array(Number(headerBytes));
  await readExactly(file, json, 8, name);
  return parseSafetensorsHeader(json, size, name);
}
