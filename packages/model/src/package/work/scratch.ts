/**
 * Buffers of one thread that serve weight after weight: garbage of this size is collected late, and the import promises how
 * much memory it takes.
 */
export class Scratch {
  readonly #buffers = new Map<string, ArrayBuffer>();

  /** The first `byteLength` bytes of the buffer of that name, with whatever is in them; valid until it is asked for again. */
  bytes(name: string, byteLength: number): Uint8Array<ArrayBuffer> {
    let buffer = this.#buffers.get(name);
    if (buffer === undefined || buffer.byteLength < byteLength) {
      // Let go first, so that both are never held at once.
      this.#buffers.delete(name);
      buffer = new ArrayBuffer(byteLength);
      this.#buffers.set(name, buffer);
    }
    return new Uint8Array(buffer, 0, byteLength);
  }

  float32(name: string, length: number): Float32Array<ArrayBuffer> {
    return new Float32Array(this.bytes(name, 4 * length).buffer, 0, length);
  }
}
