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
  /** @throws TokenizerError TOKEN_OUT_OF_RANGE */
  tokenBytes(id: number): Uint8Array;
  isControl(id: number): boolean;
}

/**
 * Turns tokens into text as they come, and never takes a character back.
 *
 * A token may end in the middle of a character. Such bytes wait, at most three of them, until the next token completes
 * the character or shows that it cannot be completed (then U+FFFD, as in every UTF-8 decoder). So the deltas joined are
 * exactly `tokenizer.decode` of all the tokens, and each token costs its own length.
 */
export class StreamingDecoder {
  readonly #tokenizer: TokenReader;
  readonly #skipSpecial: boolean;
  readonly #utf8 = new TextDecoder("utf-8", { ignoreBOM: true });
  #leadingSpaces: number;

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
    const bytes = this.#tokenizer.tokenBytes(token);
    if (this.#skipSpecial && this.#tokenizer.isControl(token)) return "";
    return this.#withoutLeadingSpaces(this.#utf8.decode(bytes, { stream: true }));
  }

  /** Ends the text: a character that never became whole appears as U+FFFD. The decoder then starts anew. */
  flush(): string {
    const rest = this.#withoutLeadingSpaces(this.#utf8.decode());
    this.#leadingSpaces = this.#tokenizer.leadingSpaces;
    return rest;
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
