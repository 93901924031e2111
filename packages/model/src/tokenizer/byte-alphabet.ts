/*
 * Byte-level vocabularies write each byte as one printable character: printable Latin-1 stands for itself, the other 68
 * bytes follow from U+0100 on, in order (as in GPT-2's encoder).
 */

/** The character of each byte. */
const CHARACTER_OF_BYTE: readonly string[] = (() => {
  const isPrintable = (byte: number) =>
    (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || (byte >= 0xae && byte <= 0xff);
  let next = 0x100;
  return Array.from({ length: 256 }, (_, byte) => String.fromCharCode(isPrintable(byte) ? byte : next++));
})();

const BYTE_OF_CHARACTER: ReadonlyMap<string, number> = new Map(CHARACTER_OF_BYTE.map((c, byte) => [c, byte]));

const encoder = new TextEncoder();

/** `text` as UTF-8, each byte as its character. */
export function toByteAlphabet(text: string): string {
  let letters = "";
  for (const byte of encoder.encode(text)) letters += CHARACTER_OF_BYTE[byte];
  return letters;
}

/** The bytes that `token` writes, or undefined if it has a character of another alphabet. */
export function fromByteAlphabet(token: string): Uint8Array | undefined {
  const bytes = new Uint8Array(token.length);
  for (let i = 0; i < token.length; i++) {
    const byte = BYTE_OF_CHARACTER.get(token[i] as string);
    if (byte === undefined) return undefined;
    bytes[i] = byte;
  }
  return bytes;
}
