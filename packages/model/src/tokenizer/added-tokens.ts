import type { Normalize } from "./normalizer.ts";
import { StringTrie } from "./string-trie.ts";

/** A token that is looked for in the text before the text is split into words. */
export interface AddedToken {
  readonly id: number;
  readonly content: string;
  /** Takes the white space before it with it. */
  readonly lstrip: boolean;
  /** Takes the white space behind it with it. */
  readonly rstrip: boolean;
  /** Is found only where no word goes on at either side. */
  readonly single_word: boolean;
  /** Is looked for in the normalized text, and normalized itself. */
  readonly normalized: boolean;
}

/** What a text consists of: added tokens, and the normalized text between them, never empty. */
export type Stretch =
  | { readonly kind: "token"; readonly id: number }
  | { readonly kind: "text"; readonly text: string; readonly isStart: boolean };

export interface SplitOptions {
  /** Keeps tokens apart that text should not become, and is dropped; "" for none. See {@link ControlGuard}. */
  readonly mark: string;
  /** Take control tokens for text. */
  readonly skipControl: boolean;
}

/** A stretch of the text as written: where it was matched against nothing yet. */
interface Piece {
  readonly text: string;
  readonly from: number;
  readonly token: AddedToken | undefined;
}

const SPACE = /^\p{White_Space}$/u;
const WORD_BEFORE = /[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}]$/u;
const WORD_AFTER = /^[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}]/u;

/**
 * Finds added tokens as the reference does: first those that are looked for in the text as written, then, in what is
 * between them, normalized, the others; at each place the longest.
 */
export class AddedTokens {
  readonly #written: Vocabulary;
  readonly #normalized: Vocabulary;
  readonly #control: ReadonlySet<number>;
  readonly #normalize: Normalize;

  /** @param control - ids of the control tokens */
  constructor(tokens: readonly AddedToken[], control: ReadonlySet<number>, normalize: Normalize = (text) => text) {
    this.#written = new Vocabulary(
      tokens.filter(({ normalized }) => !normalized).map((token) => [token.content, token]),
    );
    this.#normalized = new Vocabulary(
      tokens.filter(({ normalized }) => normalized).map((token) => [normalize(token.content), token]),
    );
    this.#control = control;
    this.#normalize = normalize;
  }

  *split(text: string, { mark, skipControl }: SplitOptions): Iterable<Stretch> {
    for (const piece of this.#find(text, this.#written, mark, skipControl)) {
      if (piece.token !== undefined) {
        yield { kind: "token", id: piece.token.id };
        continue;
      }
      const clean = without(piece.text, mark);
      const normalized = this.#normalize(clean);
      if (this.#normalized.isEmpty) {
        if (normalized !== "") yield { kind: "text", text: normalized, isStart: piece.from === 0 };
        continue;
      }
      // Marks must keep control tokens apart here too, so they are normalized with the text. Where that would change the
      // text, no control token is looked for.
      const marked = this.#normalize(piece.text);
      const isSame = without(marked, mark) === normalized;
      const inner = this.#find(isSame ? marked : normalized, this.#normalized, mark, skipControl || !isSame);
      for (const { token, text: stretch, from } of inner) {
        const isStart = piece.from === 0 && from === 0;
        if (token !== undefined) yield { kind: "token", id: token.id };
        else if (without(stretch, mark) !== "") yield { kind: "text", text: without(stretch, mark), isStart };
      }
    }
  }

  *#find(text: string, vocabulary: Vocabulary, mark: string, skipControl: boolean): Iterable<Piece> {
    let done = 0;
    for (let at = 0; at < text.length; ) {
      const length = vocabulary.longestAt(text, at);
      const token = length === 0 ? undefined : vocabulary.get(text.slice(at, at + length));
      if (token === undefined) {
        at++;
        continue;
      }
      const from = at;
      at += length;
      // Text is looked at again from behind a token that was passed over.
      if (skipControl && this.#control.has(token.id)) continue;
      // One character has no inside for a mark: it stands before it.
      if (length === 1 && from > 0 && text[from - 1] === mark) continue;
      if (token.single_word && !isWord(text, from, at, mark)) continue;
      const start = token.lstrip ? Math.max(done, spacesBefore(text, from, mark)) : from;
      if (start > done) yield { text: text.slice(done, start), from: done, token: undefined };
      if (token.rstrip) at = spacesAfter(text, at, mark);
      yield { text: "", from, token };
      done = at;
    }
    if (done < text.length) yield { text: text.slice(done), from: done, token: undefined };
  }
}

class Vocabulary {
  readonly #tokens: ReadonlyMap<string, AddedToken>;
  readonly #trie: StringTrie;

  constructor(tokens: readonly (readonly [string, AddedToken])[]) {
    this.#tokens = new Map(tokens);
    this.#trie = new StringTrie(this.#tokens.keys());
  }

  get isEmpty(): boolean {
    return this.#tokens.size === 0;
  }

  get(text: string): AddedToken | undefined {
    return this.#tokens.get(text);
  }

  longestAt(text: string, at: number): number {
    return this.#trie.longestAt(text, at);
  }
}

function without(text: string, mark: string): string {
  return mark === "" ? text : text.replaceAll(mark, "");
}

function spacesBefore(text: string, at: number, mark: string): number {
  let start = at;
  while (start > 0 && isSpace(text[start - 1] as string, mark)) start--;
  return start;
}

function spacesAfter(text: string, at: number, mark: string): number {
  let end = at;
  while (end < text.length && isSpace(text[end] as string, mark)) end++;
  return end;
}

function isSpace(character: string, mark: string): boolean {
  return character === mark || SPACE.test(character);
}

/** Whether no letter, digit or mark stands at either side. */
function isWord(text: string, from: number, to: number, mark: string): boolean {
  const near = 2 + 2 * mark.length;
  const before = without(text.slice(Math.max(0, from - near), from), mark);
  const after = without(text.slice(to, to + near), mark);
  return !WORD_BEFORE.test(before) && !WORD_AFTER.test(after);
}
