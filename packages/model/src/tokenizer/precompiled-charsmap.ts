import { invalidPart } from "./tokenizer-schema.ts";

/** Larger maps are no maps: SentencePiece's own have about 250,000 bytes. */
const MAX_BYTES = 16 * 1024 * 1024;

/**
 * Graphemes up to this many bytes are looked up as a whole, longer ones a character at a time. The reference's rule, and
 * tokenizers were trained with it.
 */
const MAX_GRAPHEME_BYTES = 5;

const encoder = new TextEncoder();

/**
 * SentencePiece's compiled normalization: a double-array trie over UTF-8 bytes, whose values are offsets into a block of
 * zero-terminated replacements.
 *
 * Layout: the trie's size in bytes as uint32, its units as uint32 each, the replacements; all little-endian. A unit holds
 * the label of the byte that leads to it, whether a word ends here, and where its children are (as in the `darts-clone`
 * library).
 */
export class PrecompiledCharsmap {
  readonly #units: Uint32Array;
  readonly #replacements: Uint8Array;
  readonly #graphemes = new Intl.Segmenter("und", { granularity: "grapheme" });
  readonly #decoder = new TextDecoder();

  /**
   * @param base64 - field `precompiled_charsmap`
   * @throws TokenizerError TOKENIZER_INVALID
   */
  constructor(base64: string) {
    const invalid = (what: string) => invalidPart(`normalizer Precompiled: the character map ${what}`);
    if (base64.length > (MAX_BYTES / 3) * 4) throw invalid("is too long");
    const bytes = Buffer.from(base64, "base64");
    const trieBytes = bytes.length >= 4 ? bytes.readUInt32LE(0) : 0;
    if (trieBytes === 0 || trieBytes % 4 !== 0 || 4 + trieBytes > bytes.length) throw invalid("is truncated");
    this.#units = Uint32Array.from({ length: trieBytes / 4 }, (_, i) => bytes.readUInt32LE(4 + 4 * i));
    this.#replacements = Uint8Array.from(bytes.subarray(4 + trieBytes));
  }

  normalize(text: string): string {
    let normalized = "";
    for (const { segment } of this.#graphemes.segment(text)) {
      const bytes = encoder.encode(segment);
      const whole = bytes.length <= MAX_GRAPHEME_BYTES ? this.#lookUp(bytes) : undefined;
      if (whole !== undefined) normalized += whole;
      else for (const character of segment) normalized += this.#lookUp(encoder.encode(character)) ?? character;
    }
    return normalized;
  }

  /** Replacement of the *shortest* prefix of `key` in the map: again the reference's rule. */
  #lookUp(key: Uint8Array): string | undefined {
    const units = this.#units;
    let at = childrenOf(units[0] as number);
    for (const byte of key) {
      if (byte === 0) return undefined;
      at ^= byte;
      // Out of range in a broken map only.
      const unit = units[at];
      if (unit === undefined || labelOf(unit) !== byte) return undefined;
      at ^= childrenOf(unit);
      if (hasLeaf(unit)) return this.#replacementAt((units[at] ?? 0) & 0x7fff_ffff);
    }
    return undefined;
  }

  #replacementAt(offset: number): string {
    const end = this.#replacements.indexOf(0, offset);
    return this.#decoder.decode(this.#replacements.subarray(offset, end === -1 ? undefined : end));
  }
}

function hasLeaf(unit: number): boolean {
  return ((unit >>> 8) & 1) === 1;
}

function labelOf(unit: number): number {
  return (unit & 0x8000_00ff) >>> 0;
}

function childrenOf(unit: number): number {
  return ((unit >>> 10) << ((unit & 0x200) >>> 6)) >>> 0;
}
