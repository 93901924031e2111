import { invalidPart } from "./tokenizer-schema.ts";

/**
 * A pattern of tokenizer.json as a JavaScript regular expression.
 *
 * The reference runs patterns with Oniguruma. The two languages agree on most of what word rules are written with, and
 * differ quietly on the rest: white space, `.`, `$`, what follows a quantifier, what `&&` or `[` mean within a class, which
 * letters are the same in another case. So the pattern is read piece by piece, each piece is written as what Oniguruma
 * means by it, and what is not known here is refused.
 *
 * @param part - what the pattern belongs to, for errors
 * @throws TokenizerError TOKENIZER_INVALID naming the construct that is not supported
 */
export function javaScriptPattern(part: string, pattern: string): RegExp {
  const reader = new PatternReader(part, pattern);
  try {
    return new RegExp(reader.translate(), "gu");
  } catch (error) {
    if (error instanceof SyntaxError) throw invalidPart(`${part}: the pattern is malformed: ${error.message}`, error);
    throw error;
  }
}

/** Escapes that mean the same within a class and outside of one. */
const ESCAPES: Readonly<Record<string, string>> = {
  s: "\\p{White_Space}",
  S: "\\P{White_Space}",
  d: "\\p{Nd}",
  D: "\\P{Nd}",
  n: "\\n",
  r: "\\r",
  t: "\\t",
  f: "\\f",
  v: "\\v",
};

/** Properties both engines know by this name: general categories, and scripts, which JavaScript wants named as such. */
const CATEGORY = /^(?:L|Lu|Ll|Lt|Lm|Lo|M|Mn|Mc|Me|N|Nd|Nl|No|P|Pc|Pd|Ps|Pe|Pi|Pf|Po|S|Sm|Sc|Sk|So|Z|Zs|Zl|Zp|Cc|Cf)$/;
const SCRIPTS = new Set(
  "Arabic Armenian Bengali Bopomofo Cyrillic Devanagari Ethiopic Georgian Greek Gujarati Gurmukhi Han Hangul Hebrew Hiragana Kannada Katakana Khmer Lao Latin Malayalam Mongolian Myanmar Oriya Sinhala Tamil Telugu Thai Tibetan".split(
    " ",
  ),
);

const GROUP = /^\((?:\?(?::|=|!|<=|<!|i:))?/;
const REPEAT = /^\{(\d{1,4})?(,)?(\d{1,4})?\}/;

/** Oniguruma matches these pairs with one character, such as `ss` with `ß`, where case does not count. */
const FOLDED_PAIRS = /ss|ff|fi|fl|st/i;

class PatternReader {
  readonly #part: string;
  readonly #pattern: string;
  #at = 0;
  /** For each open group, whether case counts in it. */
  readonly #groups: boolean[] = [];
  /** Letters that stand next to each other where case does not count. */
  #letters = "";

  constructor(part: string, pattern: string) {
    this.#part = part;
    this.#pattern = pattern;
  }

  translate(): string {
    let written = "";
    while (this.#at < this.#pattern.length) written += this.#next();
    if (this.#groups.length > 0) throw this.#refuse("a group that does not end");
    return written;
  }

  get #ignoresCase(): boolean {
    return this.#groups.includes(true);
  }

  #next(): string {
    const character = this.#peek();
    switch (character) {
      case "(":
        return this.#group();
      case ")":
        if (this.#groups.pop() === undefined) throw this.#refuse('")" without "("');
        this.#letters = "";
        return this.#take(1) + this.#quantifier();
      case "|":
        this.#letters = "";
        return this.#take(1);
      case "[":
        return this.#class() + this.#quantifier();
      case ".":
        this.#take(1);
        return `[^\\n]${this.#quantifier()}`;
      case "^":
        this.#take(1);
        return "(?<![^\\n])";
      case "$":
        this.#take(1);
        return "(?![^\\n])";
      case "\\": {
        this.#letters = "";
        const written = this.#escape();
        if (this.#ignoresCase) throw this.#refuse(`${written} where case does not count`);
        return written + this.#quantifier();
      }
      case "*":
      case "+":
      case "?":
        throw this.#refuse(`"${character}" after nothing`);
      default:
        return this.#literal();
    }
  }

  #group(): string {
    const open = GROUP.exec(this.#rest)?.[0] as string;
    this.#take(open.length);
    if (open === "(" && this.#peek() === "?") throw this.#refuse(`group "(${this.#rest.slice(0, 3)}"`);
    this.#groups.push(open === "(?i:");
    this.#letters = "";
    // No pattern refers to what a group matched, so none needs to be kept.
    return open === "(" ? "(?:" : open;
  }

  /** `*`, `+`, `?`, `{…}`, each with an optional `?`. Oniguruma gives another meaning to a `+` behind them. */
  #quantifier(): string {
    let written = "";
    if ("*+?".includes(this.#peek() || " ")) written = this.#take(1);
    else if (this.#peek() === "{") {
      const repeat = REPEAT.exec(this.#rest);
      if (repeat === null || (repeat[1] === undefined && repeat[3] === undefined)) throw this.#refuse('"{"');
      this.#take(repeat[0].length);
      written = `{${repeat[1] ?? "0"}${repeat[2] ?? ""}${repeat[3] ?? ""}}`;
    }
    if (written === "") return "";
    // A letter that may be missing brings those around it together.
    if (this.#peek() === "?") written += this.#take(1);
    if ("*+?{".includes(this.#peek() || " ")) throw this.#refuse(`"${written}${this.#peek()}"`);
    return written;
  }

  #class(): string {
    const from = this.#at;
    let written = this.#take(1);
    if (this.#peek() === "^") written += this.#take(1);
    if (this.#peek() === "]") throw this.#refuse('a class that begins with "]"');
    for (;;) {
      const character = this.#peek();
      if (character === "") throw this.#refuse("a class that does not end");
      if (character === "]") break;
      if (character === "[") throw this.#refuse("a class within a class");
      if (this.#rest.startsWith("&&")) throw this.#refuse('"&&" within a class');
      if (character === "\\") written += this.#escape();
      else if (character === "-") written += this.#dash(written);
      else written += escapeInClass(this.#takeCharacter());
    }
    const body = this.#pattern.slice(from, this.#at + 1);
    if (this.#ignoresCase && !/^\[[\x20-\x7e]+\]$/.test(body)) throw this.#refuse(`${body} where case does not count`);
    if (this.#ignoresCase && /[\\^]/.test(body)) throw this.#refuse(`${body} where case does not count`);
    return written + this.#take(1);
  }

  /** A dash is a range between two characters, and itself at either end. */
  #dash(before: string): string {
    this.#take(1);
    const isEnd = before === "[" || before === "[^" || this.#peek() === "]";
    if (isEnd) return "\\-";
    if (/(?:\\[pP]\{\w+(?:=\w+)?\})$/.test(before) || /^\\[sSdDpP]/.test(this.#rest)) {
      throw this.#refuse('"-" beside a set of characters within a class');
    }
    return "-";
  }

  #escape(): string {
    const property = /^\\([pP])\{(\^?)(\w+)\}/.exec(this.#rest);
    if (property !== null) {
      this.#take(property[0].length);
      const [, letter, not, name] = property as unknown as [string, string, string, string];
      const isNegated = (letter === "P") !== (not === "^");
      if (CATEGORY.test(name)) return `\\${isNegated ? "P" : "p"}{${name}}`;
      if (SCRIPTS.has(name)) return `\\${isNegated ? "P" : "p"}{Script=${name}}`;
      throw this.#refuse(property[0]);
    }
    const code = /^\\(?:x([0-9A-Fa-f]{2})|x\{([0-9A-Fa-f]{1,6})\}|u([0-9A-Fa-f]{4}))/.exec(this.#rest);
    if (code !== null) {
      this.#take(code[0].length);
      return `\\u{${code[1] ?? code[2] ?? code[3]}}`;
    }
    const letter = this.#pattern[this.#at + 1] ?? "";
    const same = Object.hasOwn(ESCAPES, letter) ? ESCAPES[letter] : undefined;
    if (same !== undefined) {
      this.#take(2);
      return same;
    }
    if (letter === "" || /[\p{L}\p{N}]/u.test(letter)) throw this.#refuse(`"\\${letter}"`);
    this.#take(1);
    return escapeInClass(this.#takeCharacter());
  }

  #literal(): string {
    const character = this.#takeCharacter();
    if (character === "{" || character === "}" || character === "]") throw this.#refuse(`"${character}" alone`);
    if (this.#ignoresCase) {
      if (character > "\x7f") throw this.#refuse(`"${character}" where case does not count`);
      this.#letters += character;
      if (FOLDED_PAIRS.test(this.#letters)) throw this.#refuse(`"${this.#letters}" where case does not count`);
    }
    return escapeLiteral(character) + this.#quantifier();
  }

  get #rest(): string {
    return this.#pattern.slice(this.#at);
  }

  #peek(): string {
    return this.#pattern[this.#at] ?? "";
  }

  #take(length: number): string {
    const taken = this.#pattern.slice(this.#at, this.#at + length);
    this.#at += length;
    return taken;
  }

  #takeCharacter(): string {
    return this.#take((this.#pattern.codePointAt(this.#at) as number) > 0xffff ? 2 : 1);
  }

  #refuse(what: string): Error {
    return invalidPart(`${this.#part}: ${what} in a pattern is not supported`);
  }
}

function escapeLiteral(character: string): string {
  return /[\^$\\.*+?()[\]{}|/]/.test(character) ? `\\${character}` : character;
}

/** Also for what stands alone: these escapes mean the same there. */
function escapeInClass(character: string): string {
  return /[\^$\\.*+?()[\]{}|/-]/.test(character) ? `\\u{${character.codePointAt(0)?.toString(16)}}` : character;
}
