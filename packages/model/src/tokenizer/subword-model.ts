import { invalidPart } from "./tokenizer-schema.ts";

/** Turns words into tokens of a vocabulary. */
export interface SubwordModel {
  /** Token ids by their spelling. */
  readonly vocabulary: ReadonlyMap<string, number>;
  /** The token for what the vocabulary cannot spell. */
  readonly unknownId: number | undefined;
  /**
   * @param word - not empty
   * @param ids - the word's tokens are added here
   */
  encodeWord(word: string, ids: number[]): void;
}

/** Highest token id; the largest vocabularies have about 260,000 tokens. Tables are as long as this. */
export const MAX_TOKEN_ID = 4_194_304;

/** @returns the id of `<0x00>` to `<0xFF>`, or undefined when one is missing: then none is used */
export function byteTokens(vocabulary: ReadonlyMap<string, number>): number[] | undefined {
  const ids: number[] = [];
  for (let byte = 0; byte < 256; byte++) {
    const id = vocabulary.get(`<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`);
    if (id !== undefined) ids.push(id);
  }
  if (ids.length === 256) return ids;
  if (ids.length === 0) return undefined;
  throw invalidPart("model.byte_fallback with only some of the byte tokens is not supported");
}
