import { Tokenizer } from "@huggingface/tokenizers";

/**
 * The part of `@huggingface/tokenizers` that is used here.
 *
 * The library's own declarations do not resolve under Node's module rules, so what we rely on is written down.
 */
export interface LibraryTokenizer {
  /** Runs on each stretch of text between added tokens, before it is split into words. May be replaced. */
  normalizer: ((text: string) => string) | null;
  /** Splits each stretch into words. May be replaced; null for none. */
  pre_tokenizer: ((text: string, options?: object) => string[]) | null;
  /** Ids are undefined where the vocabulary has neither the token nor an unknown token. */
  encode(text: string, options: { add_special_tokens: boolean }): { ids: (number | undefined)[] };
  token_to_id(token: string): number | undefined;
  get_vocab(): Map<string | undefined, number>;
  get_added_tokens_decoder(): Map<number, { content: string }>;
}

/**
 * @param tokenizer - parsed tokenizer.json
 * @param config - parsed tokenizer_config.json
 * @throws Error of the library's own when a part is malformed
 */
export function createLibraryTokenizer(tokenizer: object, config: object): LibraryTokenizer {
  return new Tokenizer(tokenizer, config) as LibraryTokenizer;
}
