/** Nesting beyond this is an attack, not a config: real files stay below 20. */
const MAX_DEPTH = 64;

/**
 * Parse JSON as `JSON.parse` does, and refuse what it lets through silently: an object that says a key twice (the last
 * one would win) and absurd nesting.
 *
 * Duplicates matter because two readers that pick differently would see two different checkpoints under one checksum.
 *
 * @throws SyntaxError naming the key or the depth
 */
export function parseStrictJson(text: string): unknown {
  // First the built-in parser: what follows may assume well-formed text.
  const value: unknown = JSON.parse(text);
  // A key that is there twice is written twice and kept once, so counting is enough; names are looked for only then.
  if (countWrittenKeys(text) !== countKeys(value)) {
    throw new SyntaxError(`key ${JSON.stringify(findDuplicate(text))} appears twice`);
  }
  return value;
}

/** Colons outside of strings. @param text - well-formed JSON */
function countWrittenKeys(text: string): number {
  let keys = 0;
  let depth = 0;
  for (let at = 0; at < text.length; at++) {
    switch (text[at]) {
      case '"':
        at = stringEnd(text, at) - 1;
        break;
      case ":":
        keys++;
        break;
      case "{":
      case "[":
        if (++depth > MAX_DEPTH) throw new SyntaxError(`nested deeper than ${MAX_DEPTH}`);
        break;
      case "}":
      case "]":
        depth--;
        break;
      default:
    }
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
    switch (text[at]) {
      case "{":
        open.push(new Set());
        isKey = true;
        break;
      case "[":
        open.push(undefined);
        isKey = false;
        break;
      case "}":
      case "]":
        open.pop();
        break;
      case ",":
        isKey = open.at(-1) !== undefined;
        break;
      case '"': {
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

/** Index after the closing quote of the string that opens at `start`. */
function stringEnd(text: string, start: number): number {
  for (let quote = text.indexOf('"', start + 1); ; quote = text.indexOf('"', quote + 1)) {
    let backslashes = 0;
    while (text[quote - 1 - backslashes] === "\\") backslashes++;
    if (backslashes % 2 === 0) return quote + 1;
  }
}
