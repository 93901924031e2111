import { TokenizerError } from "../../errors.ts";

/** Expressions, statements and items that one rendering may go through; real templates take about 50 for each message. */
const MAX_STEPS = 1_000_000;

/** Longest text a template may hold or write. */
const MAX_CHARACTERS = 8 * 1024 * 1024;

/** Characters of all texts it may make: a long chat is made of about ten copies of itself. Bounds memory, too. */
const MAX_CHARACTERS_IN_ALL = 8 * MAX_CHARACTERS;

/** Going through so many characters takes about as long as one step. */
const CHARACTERS_PER_STEP = 64;

/** Longest list, `range` included. */
const MAX_ITEMS = 100_000;

/** Macros in macros. Jinja's own limit is about the same. */
const MAX_DEPTH = 200;

/**
 * What a rendering may still do. A template comes with a checkpoint, so it is a program from a stranger: it may loop,
 * recurse and double its text, but only so far.
 *
 * Whatever makes something asks first, so that nothing is made that is too large.
 */
export class Budget {
  #steps = MAX_STEPS;
  #characters = MAX_CHARACTERS_IN_ALL;
  #depth = 0;

  /** @throws TokenizerError CHAT_TEMPLATE_LIMIT, as all of these */
  step(count = 1): void {
    this.#steps -= count;
    if (this.#steps < 0) throw overLimit(`takes more than ${MAX_STEPS} steps`);
  }

  /** @param length - of a text that is about to be gone through */
  scan(length: number): void {
    this.step(Math.ceil(length / CHARACTERS_PER_STEP));
  }

  /** @param length - of a text that is about to be made */
  characters(length: number): void {
    if (length > MAX_CHARACTERS) throw overLimit(`makes a text of more than ${MAX_CHARACTERS} characters`);
    this.#characters -= length;
    if (this.#characters < 0) throw overLimit(`makes texts of more than ${MAX_CHARACTERS_IN_ALL} characters in all`);
  }

  /** A text that is not much longer than what it was made of, so that it could be made before it was asked for. */
  text(made: string): string {
    this.characters(made.length);
    return made;
  }

  /** @param length - of a list that is about to be made */
  items(length: number): void {
    if (length > MAX_ITEMS) throw overLimit(`makes a list of more than ${MAX_ITEMS} items`);
    this.step(length);
  }

  /** Run what a template nests: macros, and values in values. */
  nested<T>(work: () => T): T {
    if (++this.#depth > MAX_DEPTH) throw overLimit(`nests deeper than ${MAX_DEPTH}`);
    try {
      return work();
    } finally {
      this.#depth--;
    }
  }
}

export function overLimit(what: string): TokenizerError {
  return new TokenizerError("CHAT_TEMPLATE_LIMIT", `the chat template ${what}`);
}
