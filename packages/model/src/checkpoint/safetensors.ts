import type { FileHandle } from "node:fs/promises";
import { CheckpointError } from "../errors.ts";
import { openVersioned, type RegularFile, readExactly, refuseChange } from "./file-reads.ts";
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
  readonly #file: RegularFile;

  private constructor(file: RegularFile, path: string, name: string, tensors: TensorEntry[]) {
    this.#file = file;
    this.path = path;
    this.name = name;
    this.tensors = tensors;
  }

  /**
   * @param path - absolute, links resolved
   * @param name - the file's name, for messages
   * @throws CheckpointError CHECKPOINT_CORRUPT when the header or the layout is wrong
   */
  static async open(path: string, name: string): Promise<SafetensorsFile> {
    const file = await openVersioned(path, name);
    try {
      return new SafetensorsFile(file, path, name, await readHeader(file, name));
    } catch (error) {
      await file.handle.close();
      throw error;
    }
  }

  /** For reading; closed with this object. */
  get handle(): FileHandle {
    return this.#file.handle;
  }

  /**
   * @throws CheckpointError CHECKPOINT_CORRUPT when the file has been written to, or another is in its place, since it was
   *   opened
   */
  async refuseChange(): Promise<void> {
    await refuseChange(this.#file, this.path, this.name);
  }

  async close(): Promise<void> {
    await this.handle.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

async function readHeader({ handle, size }: RegularFile, name: string): Promise<TensorEntry[]> {
  const corrupt = (what: string) => new CheckpointError("CHECKPOINT_CORRUPT", `${quote(name)}: ${what}`);
  if (size < 8) throw corrupt(`${size} bytes cannot hold a safetensors header`);
  const prefix = new Uint8Array(8);
  await readExactly(handle, prefix, 0, name);
  const headerBytes = new DataView(prefix.buffer).getBigUint64(0, true);
  if (headerBytes > MAX_HEADER_BYTES) {
    throw corrupt(`the header claims ${headerBytes} bytes, over the limit of ${MAX_HEADER_BYTES}`);
  }
  if (8 + Number(headerBytes) > size) throw corrupt(`the header claims ${headerBytes} bytes, the file has ${size}`);
  const json = new Uint8Array(Number(headerBytes));
  await readExactly(handle, json, 8, name);
  return parseSafetensorsHeader(json, size, name);
}
