import { createHash, type Hash } from "node:crypto";
import type { FileHandle } from "node:fs/promises";
import { ELEMENT_BYTES } from "../../checkpoint/element-types.ts";
import { readExactly } from "../../checkpoint/file-reads.ts";
import { refuseNonFinite, type TensorSource } from "../../checkpoint/tensor-source.ts";
import { CHUNK_BYTES } from "./file-access.ts";

/** Reads a tensor of the checkpoint from its first byte to its last; hashes and checks what it reads. */
export class SourceReader {
  readonly #source: TensorSource;
  readonly #file: FileHandle;
  readonly #onBytes: (bytes: number) => void;
  readonly #hash: Hash = createHash("sha256");
  #done = 0;

  /**
   * @param file - open on the tensor's file
   * @param onBytes - called with the bytes of each step
   */
  constructor(source: TensorSource, file: FileHandle, onBytes: (bytes: number) => void) {
    this.#source = source;
    this.#file = file;
    this.#onBytes = onBytes;
  }

  /**
   * Fill `into` with the next bytes, whole elements.
   *
   * @throws CheckpointError CHECKPOINT_NOT_FINITE at the first NaN or infinity, CHECKPOINT_CORRUPT when the file shrank
   */
  async read(into: Uint8Array): Promise<void> {
    const { dtype, offset, file } = this.#source;
    for (let at = 0; at < into.byteLength; at += CHUNK_BYTES) {
      const chunk = into.subarray(at, at + CHUNK_BYTES);
      await readExactly(this.#file, chunk, offset + this.#done, file);
      this.#hash.update(chunk);
      refuseNonFinite(this.#source, chunk, this.#done / ELEMENT_BYTES[dtype]);
      this.#done += chunk.byteLength;
      this.#onBytes(chunk.byteLength);
    }
  }

  /** @returns sha256 of the whole tensor, hexadecimal */
  finish(): string {
    const { name, byteLength } = this.#source;
    if (this.#done !== byteLength) throw new Error(`${byteLength - this.#done} bytes of "${name}" were not read`);
    return this.#hash.digest("hex");
  }
}
