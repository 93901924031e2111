/** Hexadecimal digits by which labels name a digest: enough to look it up, and unique within a mesh. */
const DIGITS = 12;

/** @param digest - sha256, hexadecimal */
export function shortDigest(digest: string): string {
  return digest.slice(0, DIGITS);
}
