import type { FileHandle } from "node:fs/promises";
import { CheckpointError } from "../errors.ts";
import { MAX_HEADER_BYTES, parseSafetensorsHeader, type TensorEntry } from "./safetensors-header.ts";

/** One read call moves at most this much: the platform's own limit is 2 GiB, and between reads an abort is seen. */
const READ_BYTES = 64 * 1024 * 1024;

/**
 * A safetensors file, its header checked, its tensors read when asked for.
 *
 * Owns the file handle; `close` it (or `await using`).
 */
export class SafetensorsFile {
  readonly tensors: ReadonlyMap<string, TensorEntry>;
  readonly #file: FileHandle;
  readonly #name: string;

  private constructor(file: FileHandle, name: string, tensors: ReadonlyMap<string, TensorEntry>) {
    this.#file = file;
    this.#name = name;
    this.tensors = tensors;
  }

  /**
   * Takes ownership of `file`, also when it throws.
   *
   * @param name - the file's name, for messages
   * @throws CheckpointError CHECKPOINT_CORRUPT when the header or the layout is wrong
   */
  static async open(file: FileHandle, name: string): Promise<SafetensorsFile> {
    try {
      const { size } = await file.stat();
      const corrupt = (what: string) => new CheckpointError("CHECKPOINT_CORRUPT", `"${name}": ${what}`);
      if (size < 8) throw corrupt(`${size} bytes cannot hold a safetensors header`);
      const prefix = new Uint8Array(8);
      await readExactly(file, prefix, 0, name);
      const headerBytes = new DataView(prefix.buffer).getBigUint64(0, true);
      if (headerBytes > MAX_HEADER_BYTES) {
        throw corrupt(`the header claims ${headerBytes} bytes, over the limit of ${MAX_HEADER_BYTES}`);
      }
      if (8 + Number(headerBytes) > size) {
        throw corrupt(`the header claims ${headerBytes} bytes, the file has ${size}`);
      }
      const json = new Uint8Array(Number(headerBytes));
      await readExactly(file, json, 8, name);
      const entries = parseSafetensorsHeader(json, size, name);
      return new SafetensorsFile(file, name, new Map(entries.map((entry) => [entry.name, entry])));
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  /**
   * Read one float32 tensor.
   *
   * @returns a new array, owned by the caller
   * @throws CheckpointError CHECKPOINT_UNSUPPORTED for another dtype, CHECKPOINT_CORRUPT when the file shrank meanwhile
   */
  async readFloat32(name: string, signal?: AbortSignal): Promise<Float32Array<ArrayBuffer>> {
    const entry = this.tensors.get(name);
    if (entry === undefined) throw new CheckpointError("CHECKPOINT_TENSOR_MISMATCH", `there is no tensor "${name}"`);
    if (entry.dtype !== "F32") {
      throw new CheckpointError(
        "CHECKPOINT_UNSUPPORTED",
        `tensor "${name}" is ${entry.dtype}; supported: F32. Convert the checkpoint to float32 first.`,
      );
    }
    const values = new Float32Array(entry.byteLength / 4);
    await readExactly(this.#file, new Uint8Array(values.buffer), entry.offset, this.#name, signal);
    return values;
  }

  async close(): Promise<void> {
    await this.#file.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

async function readExactly(
  file: FileHandle,
  into: Uint8Array,
  position: number,
  name: string,
  signal?: AbortSignal,
): Promise<void> {
  let done = 0;
  while (done < into.byteLength) {
    signal?.throwIfAborted();
    const { bytesRead } = await file.read(into, done, Math.min(READ_BYTES, into.byteLength - done), position + done);
    if (bytesRead === 0) {
      throw new CheckpointError("CHECKPOINT_CORRUPT", `"${name}" ends at byte ${position + done}, within its data`);
    }
    done += bytesRead;
  }
}
