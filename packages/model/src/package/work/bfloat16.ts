/** The largest finite bfloat16, as bits. */
const LARGEST = 0x7f7f;

/**
 * Round float32 values to bfloat16: to the nearest, ties to even. What would round to infinity becomes the largest finite
 * value, which is no further off than any rounding at that size.
 *
 * @param values - finite
 * @param target - bits of as many bfloat16 values
 */
export function roundToBfloat16(values: Float32Array, target: Uint16Array): void {
  // Signed words: they stay small integers for the compiler, and no finite value overflows when it is rounded.
  const words = new Int32Array(values.buffer, values.byteOffset, values.length);
  for (let i = 0; i < words.length; i++) {
    const word = words[i] as number;
    const rounded = (word + 0x7fff + ((word >> 16) & 1)) >> 16;
    target[i] = (rounded & 0x7fff) > LARGEST ? (rounded & 0x8000) | LARGEST : rounded;
  }
}
