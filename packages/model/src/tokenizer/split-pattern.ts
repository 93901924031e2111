import { javaScriptPattern } from "./oniguruma.ts";
import { invalidPart, type Pattern } from "./tokenizer-schema.ts";
import { asReferenceSees } from "./unicode-version.ts";
import { withinTime } from "./within-time.ts";

/** Where a pattern matches a text: start and end of each match, in order, not overlapping. */
export type FindMatches = (text: string) => Iterable<readonly [number, number]>;

/**
 * @param part - what the pattern belongs to, for errors
 * @throws TokenizerError TOKENIZER_INVALID when the pattern is not supported, or takes too long on simple texts
 */
export function compilePattern(part: string, pattern: Pattern): FindMatches {
  if ("String" in pattern) return (text) => occurrences(text, pattern.String);
  const expression = javaScriptPattern(part, pattern.Regex);
  const find: FindMatches = (text) => matches(asReferenceSees(text), expression);
  probe(part, find);
  return find;
}

function* occurrences(text: string, wanted: string): Iterable<readonly [number, number]> {
  for (let at = text.indexOf(wanted); at !== -1; at = text.indexOf(wanted, at + wanted.length)) {
    yield [at, at + wanted.length];
  }
}

function* matches(text: string, expression: RegExp): Iterable<readonly [number, number]> {
  for (const match of text.matchAll(expression)) yield [match.index, match.index + match[0].length];
}

/** Simple texts on which a pattern that backtracks takes the square of their length, or worse. */
const PROBES = ["a", "A", "1", " ", "\n", "\t\r\n", "!", "'", "\u00e9", "\u4e2d", "aA", "a1", "a ", "a\u0301", "ab'"];

/** At the square of this many characters, ten seconds. */
const PROBE_CHARACTERS = 50_000;

/** A pattern in use takes about 10 ms for all probes; the rest is for a busy machine. */
const PROBE_MILLISECONDS = 1000;

/** A pattern comes with a checkpoint and later runs over every text, so it is tried on long ones first. */
function probe(part: string, find: FindMatches): void {
  const tooSlow = () => invalidPart(`${part}: the pattern takes too long on simple texts`);
  const run = () => {
    for (const text of PROBES) {
      for (const _ of find(`${text.repeat(PROBE_CHARACTERS / text.length)}\u0000`));
    }
  };
  try {
    withinTime(PROBE_MILLISECONDS, run, tooSlow);
  } catch (error) {
    // The engine's stack for backtracking is full.
    if (error instanceof RangeError) throw tooSlow();
    throw error;
  }
}
