import type { TokenText } from "./token-decoder.ts";

export interface DecodeOptions {
  /**
   * Leave control tokens out of the text.
   *
   * @default true
   */
  readonly skipSpecial?: boolean;
}

/** What decoding needs to know of a tokenizer; `Tokenizer` is one. */
export interface TokenReader {
  /** Spaces that are dropped at the start of a text. */
  readonly leadingSpaces: number;
  /**
   * @param isFirst - whether no other token of the text comes before it
   * @throws TokenizerError TOKEN_OUT_OF_RANGE
   */
  tokenText(id: number, isFirst: boolean): TokenText;
  isControl(id: number): boolean;
}

/**
 * Turns tokens into text as they come, and never takes a character back: the deltas joined are exactly `tokenizer.decode`
 * of all the tokens, which is the reference's text, and each token costs its own length.
 *
 * A token may end in the middle of a character. In byte-level vocabularies such bytes wait, at most three of them, until
 * the next token completes the character or shows that it cannot be completed (then U+FFFD, as in every UTF-8 decoder).
 *
 * Byte tokens of SentencePiece (`<0xF0>`) wait for the next token that is none: the reference takes a run of them for
 * text only if all of it is UTF-8, and writes U+FFFD for each byte otherwise, so the last byte decides about the first.
 */
export class StreamingDecoder {
  readonly #tokenizer: TokenReader;
  readonly #skipSpecial: boolean;
  readonly #utf8 = new TextDecoder("utf-8", { ignoreBOM: true });
  #leadingSpaces: number;
  #isFirst = true;
  #run: number[] = [];

  constructor(tokenizer: TokenReader, options: DecodeOptions = {}) {
    this.#tokenizer = tokenizer;
    this.#skipSpecial = options.skipSpecial ?? true;
    this.#leadingSpaces = tokenizer.leadingSpaces;
  }

  /**
   * @returns text that is now certain; often empty
   * @throws TokenizerError TOKEN_OUT_OF_RANGE
   */
  push(token: number): string {
    const { bytes, isByte } = this.#tokenizer.tokenText(token, this.#isFirst);
    if (this.#skipSpecial && this.#tokenizer.isControl(token)) return "";
    this.#isFirst = false;
    if (isByte) {
      this.#run.push(...bytes);
      return "";
    }
    return this.#withoutLeadingSpaces(this.#takeRun() + this.#utf8.decode(bytes, { stream: true }));
  }

  /** Ends the text: a character that never became whole appears as U+FFFD. The decoder then starts anew. */
  flush(): string {
    const rest = this.#withoutLeadingSpaces(this.#takeRun() + this.#utf8.decode());
    this.#leadingSpaces = this.#tokenizer.leadingSpaces;
    this.#isFirst = true;
    return rest;
  }

  #takeRun(): string {
    if (this.#run.length === 0) return "";
    const bytes = Uint8Array.from(this.#run);
    this.#run = [];
    try {
      return WHOLE_UTF8.decode(bytes);
    } catch {
      return "\ufffd".repeat(bytes.length);
    }
  }

  #withoutLeadingSpaces(text: string): string {
    let start = 0;
    while (this.#leadingSpaces > 0 && start < text.length) {
      if (text[start] !== " ") this.#leadingSpaces = 0;
      else {
        this.#leadingSpaces--;
        start++;
      }
    }
    return text.slice(start);
  }
}

const WHOLE_UTF8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
