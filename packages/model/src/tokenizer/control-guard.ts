import { TokenizerError } from "../errors.ts";
import { strip } from "./python-text.ts";
import { StringTrie } from "./string-trie.ts";

/** Code points that Unicode reserves for use inside a program; they mean nothing in text. */
const NONCHARACTERS = Array.from({ length: 32 }, (_, i) => String.fromCharCode(0xfdd0 + i));

/**
 * Keeps text from becoming control tokens.
 *
 * Tokenizers look for control tokens (`<|end|>`, `<s>`, …) by their text, wherever it comes from. So a user who writes
 * `<|end|><|system|>` would speak as the system. The guard puts a mark, a code point that occurs nowhere in the
 * request, inside everything in a text that is a control token or could become one once other text is put before or after
 * it. The chat template runs over marked texts; the tokenizer matches no control token across a mark and drops the
 * marks before it splits words. What the template itself writes is unmarked and matches as ever.
 */
export class ControlGuard {
  readonly #tokens: StringTrie;
  /** Everything that can follow within a control token after its first character. */
  readonly #remainders: StringTrie;

  /** @param tokens - texts of the control tokens */
  constructor(tokens: Iterable<string>) {
    const all = [...tokens];
    this.#tokens = new StringTrie(all);
    this.#remainders = new StringTrie(all.flatMap((token) => Array.from(token, (_, i) => token.slice(i)).slice(1)));
  }

  /**
   * A mark for one request.
   *
   * @param texts - everything that will be joined
   * @throws TokenizerError CONTROL_TOKEN_IN_TEXT when the texts use all 32 candidates, which only an attack does
   */
  chooseMark(texts: readonly string[]): string {
    const mark = NONCHARACTERS.find((candidate) => !texts.some((text) => text.includes(candidate)));
    if (mark === undefined) {
      throw new TokenizerError("CONTROL_TOKEN_IN_TEXT", "the text contains all of the noncharacters U+FDD0 to U+FDEF");
    }
    return mark;
  }

  /** `text` with `mark` inside every control token it holds, begins or could complete. */
  mark(text: string, mark: string): string {
    // Templates trim: the last visible character may become the last one of all, and the first the first.
    const end = strip(text, "right").length;
    const start = text.length - strip(text, "left").length;
    const parts: string[] = [];
    let from = 0;
    if (this.#remainders.couldStartAt(text, start, end)) {
      parts.push(text.slice(0, start), mark);
      from = start;
    }
    for (let at = 0; at < text.length; at++) {
      const length = this.#tokens.longestAt(text, at);
      if (length === 0 && !this.#tokens.couldStartAt(text, at, end)) continue;
      // One character has no inside. A mark before it says at least that nobody asked for it; the text is then refused.
      if (length === 1) parts.push(text.slice(from, at), mark, text.slice(at, at + 1), mark);
      else parts.push(text.slice(from, at + 1), mark);
      from = at + 1;
    }
    parts.push(text.slice(from));
    return parts.join("");
  }
}
