import { createHash, type Hash } from "node:crypto";
import { type FileHandle, open } from "node:fs/promises";

/**
 * One read or write moves at most this much: large enough that the call costs nothing, small enough that what was read is
 * still in the cache when it is hashed and checked, and that an abort is seen soon.
 */
export const CHUNK_BYTES = 4 * 1024 * 1024;

/** Files that one thread works on, each opened once. Owns the handles. */
export class OpenFiles implements AsyncDisposable {
  readonly #handles = new Map<string, Promise<FileHandle>>();

  reading(path: string): Promise<FileHandle> {
    return this.#keep(`read ${path}`, () => open(path, "r"));
  }

  /** A file that is there already; nothing of it is cut off. */
  writing(path: string): Promise<FileHandle> {
    return this.#keep(`write ${path}`, () => open(path, "r+"));
  }

  #keep(key: string, make: () => Promise<FileHandle>): Promise<FileHandle> {
    const known = this.#handles.get(key);
    if (known !== undefined) return known;
    const made = make();
    this.#handles.set(key, made);
    return made;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const handle of await Promise.allSettled(this.#handles.values())) {
      if (handle.status === "fulfilled") await handle.value.close();
    }
    this.#handles.clear();
  }
}

/** @returns bytes read: fewer than `into` has only where the file ends */
export async function readAt(file: FileHandle, into: Uint8Array, position: number): Promise<number> {
  let done = 0;
  while (done < into.byteLength) {
    const { bytesRead } = await file.read(into, done, into.byteLength - done, position + done);
    if (bytesRead === 0) break;
    done += bytesRead;
  }
  return done;
}

/** Writes a tensor of the weights file from its first byte to its last, and hashes it on the way. */
export class TensorWriter {
  readonly #file: FileHandle;
  readonly #end: number;
  readonly #hash: Hash = createHash("sha256");
  #position: number;

  constructor(file: FileHandle, place: { readonly offset: number; readonly byteLength: number }) {
    this.#file = file;
    this.#position = place.offset;
    this.#end = place.offset + place.byteLength;
  }

  /** Write the next bytes. */
  async write(data: Uint8Array): Promise<void> {
    if (this.#position + data.byteLength > this.#end) throw new Error("more bytes than the tensor has room for");
    for (let done = 0; done < data.byteLength; ) {
      const chunk = data.subarray(done, done + CHUNK_BYTES);
      this.#hash.update(chunk);
      await writeAt(this.#file, chunk, this.#position);
      done += chunk.byteLength;
      this.#position += chunk.byteLength;
    }
  }

  /** @returns sha256 of the whole tensor, hexadecimal */
  finish(): string {
    if (this.#position !== this.#end) throw new Error(`${this.#end - this.#position} bytes of the tensor are missing`);
    return this.#hash.digest("hex");
  }
}

async function writeAt(file: FileHandle, data: Uint8Array, position: number): Promise<void> {
  for (let done = 0; done < data.byteLength; ) {
    done += (await file.write(data, done, data.byteLength - done, position + done)).bytesWritten;
  }
}
