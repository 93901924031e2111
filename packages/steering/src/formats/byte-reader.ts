import { refuse } from "./refuse.ts";

/** Reads little-endian numbers and text one after the other, and never past its end. */
export class ByteReader {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  /** What is said when the bytes run out. */
  readonly #ranOut: () => never;
  #position = 0;

  constructor(bytes: Uint8Array, ranOut: () => never) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#ranOut = ranOut;
  }

  get position(): number {
    return this.#position;
  }

  /** Go past `count` bytes; the place where they start. */
  skip(count: number): number {
    if (count > this.#bytes.length - this.#position) this.#ranOut();
    const start = this.#position;
    this.#position += count;
    return start;
  }

  u32(): number {
    return this.#view.getUint32(this.skip(4), true);
  }

  /** @throws SteeringError VECTOR_HEADER_INVALID over 2^53 */
  u64(): number {
    const value = this.#view.getBigUint64(this.skip(8), true);
    if (value > Number.MAX_SAFE_INTEGER) return refuse("VECTOR_HEADER_INVALID", `a count or an offset of ${value}`);
    return Number(value);
  }

  /**
   * Text behind its length.
   *
   * @throws SteeringError VECTOR_HEADER_INVALID when it is longer than `most` bytes, or no UTF-8
   */
  text(most: number, what: string): string {
    const length = this.u64();
    if (length > most) refuse("VECTOR_HEADER_INVALID", `${what} of ${length} bytes is over the limit ${most}`);
    const start = this.skip(length);
    try {
      return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(
        this.#bytes.subarray(start, start + length),
      );
    } catch {
      return refuse("VECTOR_HEADER_INVALID", `${what} is not UTF-8`);
    }
  }
}
