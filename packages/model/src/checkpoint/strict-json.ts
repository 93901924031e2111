import { quote } from "./quote.ts";

/** Nesting beyond this is an attack, not a config: real files stay below 20. */
const MAX_DEPTH = 64;

/** Most values of a document: the largest tokenizer.json in use has about 2 million. Parsing 4 takes up to 10 s and 1 GB. */
const MAX_VALUES = 4_000_000;

/**
 * Parse JSON as `JSON.parse` does, and refuse what it lets through silently: an object that says a key twice (the last
 * one would win), absurd nesting, and text that grows to many times its size in memory.
 *
 * Duplicates matter because two readers that pick differently would see two different checkpoints under one checksum.
 *
 * @param maxValues - bounds the memory that is taken; @default 4 million
 * @throws SyntaxError naming the key or the limit
 */
export function parseStrictJson(text: string, maxValues = MAX_VALUES): unknown {
  // Limits first, on text that may be anything; then the built-in parser; what follows may assume well-formed text.
  const writtenKeys = countWrittenKeys(text, maxValues);
  const value: unknown = JSON.parse(text);
  // A key that is there twice is written twice and kept once, so counting is enough; names are looked for only then.
  if (writtenKeys !== countKeys(value)) throw new SyntaxError(`key ${quote(findDuplicate(text) ?? "")} appears twice`);
  return value;
}

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const COMMA = 0x2c;
const COLON = 0x3a;
const OPEN_BRACKET = 0x5b;
const CLOSE_BRACKET = 0x5d;
const OPEN_BRACE = 0x7b;
const CLOSE_BRACE = 0x7d;

/** Colons outside of strings. @throws SyntaxError over a limit */
function countWrittenKeys(text: string, maxValues: number): number {
  let keys = 0;
  let depth = 0;
  let values = 1;
  for (let at = 0; at < text.length; at++) {
    switch (text.charCodeAt(at)) {
      case QUOTE:
        at = stringEnd(text, at) - 1;
        break;
      case COLON:
        keys++;
        break;
      case COMMA:
        values++;
        break;
      case OPEN_BRACE:
      case OPEN_BRACKET:
        if (++depth > MAX_DEPTH) throw new SyntaxError(`nested deeper than ${MAX_DEPTH}`);
        values++;
        break;
      case CLOSE_BRACE:
      case CLOSE_BRACKET:
        depth--;
        break;
      default:
    }
    if (values > maxValues) throw new SyntaxError(`more than ${maxValues} values`);
  }
  return keys;
}

function countKeys(value: unknown): number {
  if (typeof value !== "object" || value === null) return 0;
  const values = Object.values(value);
  return values.reduce<number>((sum, inner) => sum + countKeys(inner), Array.isArray(value) ? 0 : values.length);
}

/** A key that stands twice in one object. @param text - well-formed JSON */
function findDuplicate(text: string): string | undefined {
  const open: (Set<string> | undefined)[] = [];
  let isKey = false;
  for (let at = 0; at < text.length; at++) {
    switch (text.charCodeAt(at)) {
      case OPEN_BRACE:
        open.push(new Set());
        isKey = true;
        break;
      case OPEN_BRACKET:
        open.push(undefined);
        isKey = false;
        break;
      case CLOSE_BRACE:
      case CLOSE_BRACKET:
        open.pop();
        break;
      case COMMA:
        isKey = open.at(-1) !== undefined;
        break;
      case QUOTE: {
        const end = stringEnd(text, at);
        if (isKey) {
          const key = JSON.parse(text.slice(at, end)) as string;
          if (open.at(-1)?.has(key)) return key;
          open.at(-1)?.add(key);
          isKey = false;
        }
        at = end - 1;
        break;
      }
      default:
    }
  }
  return undefined;
}

/** Index after the closing quote of the string that opens at `start`; the end of the text where it is not closed. */
function stringEnd(text: string, start: number): number {
  for (let end = text.indexOf('"', start + 1); end >= 0; end = text.indexOf('"', end + 1)) {
    let backslashes = 0;
    while (text.charCodeAt(end - 1 - backslashes) === BACKSLASH) backslashes++;
    if (backslashes % 2 === 0) return end + 1;
  }
  return text.length;
}
