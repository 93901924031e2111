/*
 * Python's text methods where JavaScript's differ: in what counts as white space, and in what a character is.
 */

const WHITE_SPACE = /^\p{White_Space}$/u;

/** What Python's `strip` and `split` take for white space: Unicode's, and four control characters; not U+FEFF. */
function isSpace(character: string): boolean {
  const code = character.charCodeAt(0);
  // Most of any text; the expression takes ten times as long.
  if (code < 0x80) return code === 0x20 || (code >= 0x09 && code <= 0x0d) || (code >= 0x1c && code <= 0x1f);
  return WHITE_SPACE.test(character);
}

export type Side = "both" | "left" | "right";

/** @param characters - those to strip; white space if not given */
export function strip(text: string, side: Side = "both", characters?: string): string {
  const set = characters === undefined ? undefined : new Set(characters);
  const isStripped = (character: string) => (set === undefined ? isSpace(character) : set.has(character));
  let start = 0;
  let end = text.length;
  if (side !== "right") {
    for (const character of text) {
      if (!isStripped(character)) break;
      start += character.length;
    }
  }
  if (side !== "left") {
    while (end > start) {
      const character = lastCharacter(text, end);
      if (!isStripped(character)) break;
      end -= character.length;
    }
  }
  return text.slice(start, end);
}

function lastCharacter(text: string, end: number): string {
  const pair = text.slice(Math.max(0, end - 2), end);
  return (pair.codePointAt(0) as number) > 0xffff ? pair : pair.slice(-1);
}

/** @param limit - splits at most; no limit when negative */
export function splitSpaces(text: string, limit: number): string[] {
  const parts: string[] = [];
  for (const { from, part } of runs(text, isSpace)) {
    if (limit >= 0 && parts.length === limit) {
      parts.push(strip(text.slice(from), "right"));
      break;
    }
    parts.push(part);
  }
  return parts;
}

/** What is between characters that break a text, where there is something. */
function* runs(text: string, isBreak: (character: string) => boolean): Iterable<{ from: number; part: string }> {
  let from = 0;
  let at = 0;
  for (const character of text) {
    if (isBreak(character)) {
      if (at > from) yield { from, part: text.slice(from, at) };
      from = at + character.length;
    }
    at += character.length;
  }
  if (at > from) yield { from, part: text.slice(from, at) };
}

/** @param limit - splits at most; no limit when negative */
export function splitAt(text: string, separator: string, limit: number): string[] {
  const parts = text.split(separator);
  if (limit < 0 || parts.length <= limit + 1) return parts;
  return [...parts.slice(0, limit), parts.slice(limit).join(separator)];
}

/** As {@link splitAt}, from the end. */
export function splitAtFromEnd(text: string, separator: string, limit: number): string[] {
  const parts = text.split(separator);
  if (limit < 0 || parts.length <= limit + 1) return parts;
  return [parts.slice(0, parts.length - limit).join(separator), ...parts.slice(parts.length - limit)];
}

export function splitLines(text: string): string[] {
  const lines = text.replaceAll("\r\n", "\n").split(LINE_ENDS);
  if (lines.at(-1) === "") lines.pop();
  return lines;
}

const LINE_ENDS = new RegExp(`[${"\n\r\v\f\u001c\u001d\u001e\u0085\u2028\u2029"}]`);

/** The first character in its title case, the others in lower case. */
export function capitalize(text: string): string {
  const first = text.slice(0, characterLength(text));
  return titleCase(first) + text.slice(first.length).toLowerCase();
}

/** `str.title`: a new word begins behind everything that has no case. */
export function title(text: string): string {
  return text.replaceAll(/\p{Cased}\p{Cased}*/gu, capitalize);
}

/** Jinja's `title`: words begin behind white space, dashes and opening brackets only, with a capital letter. */
export function capitalizeWords(text: string): string {
  let written = "";
  let end = 0;
  for (const { from, part } of runs(text, (character) => "-({[<".includes(character) || isSpace(character))) {
    const first = part.slice(0, characterLength(part));
    written += text.slice(end, from) + first.toUpperCase() + part.slice(first.length).toLowerCase();
    end = from + part.length;
  }
  return written + text.slice(end);
}

/** Python takes the title-case letter of the three digraphs that have one. */
function titleCase(character: string): string {
  const upper = character.toUpperCase();
  const digraph = "\u01c4\u01c7\u01ca\u01f1".indexOf(upper);
  if (digraph !== -1 && upper.length === 1) return "\u01c5\u01c8\u01cb\u01f2"[digraph] as string;
  // A letter that becomes two: only the first of them is large.
  return upper.slice(0, characterLength(upper)) + upper.slice(characterLength(upper)).toLowerCase();
}

function characterLength(text: string): number {
  return (text.codePointAt(0) ?? 0) > 0xffff ? 2 : 1;
}
