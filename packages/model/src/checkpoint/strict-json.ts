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
  refuseDuplicateKeys(text);
  return value;
}

/** @param text - well-formed JSON */
function refuseDuplicateKeys(text: string): void {
  const open: (Set<string> | undefined)[] = [];
  let expectKey = false;
  let at = 0;
  while (at < text.length) {
    switch (text.charCodeAt(at)) {
      case 0x7b: // {
        open.push(new Set());
        expectKey = true;
        break;
      case 0x5b: // [
        open.push(undefined);
        expectKey = false;
        break;
      case 0x7d: // }
      case 0x5d: // ]
        open.pop();
        expectKey = false;
        break;
      case 0x2c: // ,
        expectKey = open.at(-1) !== undefined;
        break;
      case 0x22: {
        const end = stringEnd(text, at);
        if (expectKey) {
          const key = JSON.parse(text.slice(at, end)) as string;
          const keys = open.at(-1);
          if (keys?.has(key)) throw new SyntaxError(`key ${JSON.stringify(key)} appears twice`);
          keys?.add(key);
          expectKey = false;
        }
        at = end - 1;
        break;
      }
      default:
    }
    if (open.length > MAX_DEPTH) throw new SyntaxError(`nested deeper than ${MAX_DEPTH}`);
    at++;
  }
}

/** Index after the closing quote of the string that opens at `start`. */
function stringEnd(text: string, start: number): number {
  let at = start + 1;
  while (text.charCodeAt(at) !== 0x22) at += text.charCodeAt(at) === 0x5c ? 2 : 1;
  return at + 1;
}
