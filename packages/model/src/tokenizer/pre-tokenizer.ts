import { z } from "zod";
import { toByteAlphabet } from "./byte-alphabet.ts";
import { compilePattern, type FindMatches } from "./split-pattern.ts";
import { flattenPart, invalidPart, type Part, patternSchema, readPart, unsupportedPart } from "./tokenizer-schema.ts";

/**
 * Splits a stretch of text into words; no token spans two of them.
 *
 * @param isStart - whether the stretch is the beginning of the whole text
 */
export type PreTokenize = (text: string, isStart: boolean) => string[];

const FIELD = "pre_tokenizer";
/** GPT-2's word rule, which a `ByteLevel` pre-tokenizer applies unless it is told not to. */
const BYTE_LEVEL_WORDS = String.raw`'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`;

const BEHAVIORS = ["Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"] as const;
type Behavior = (typeof BEHAVIORS)[number];

const byteLevelSchema = z.strictObject({
  type: z.string(),
  add_prefix_space: z.boolean(),
  // About offsets in the text, which are not asked for.
  trim_offsets: z.boolean().optional(),
  use_regex: z.boolean().default(true),
});
const digitsSchema = z.strictObject({ type: z.string(), individual_digits: z.boolean() });
const splitSchema = z.strictObject({
  type: z.string(),
  pattern: patternSchema,
  behavior: z.enum(BEHAVIORS),
  invert: z.boolean().default(false),
});
const bareSchema = z.strictObject({ type: z.string() });
const metaspaceSchema = z.strictObject({
  type: z.string(),
  replacement: z.string().refine((text) => [...text].length === 1, "is not one character"),
  prepend_scheme: z.enum(["always", "first", "never"]).optional(),
  split: z.boolean().default(true),
  // Written by old versions.
  add_prefix_space: z.boolean().optional(),
  str_rep: z.string().optional(),
});

/**
 * @param value - `pre_tokenizer` of tokenizer.json
 * @throws TokenizerError TOKENIZER_INVALID naming the part that is not supported
 */
export function createPreTokenizer(value: unknown): PreTokenize {
  const steps = flattenPart(FIELD, "pretokenizers", value).map(createStep);
  return (text, isStart) =>
    steps.reduce(
      (words, step) => words.flatMap((word, i) => step(word, isStart && i === 0)).filter((word) => word !== ""),
      [text],
    );
}

const STEPS: Readonly<Record<string, (part: Part) => PreTokenize>> = {
  ByteLevel: byteLevel,
  Digits: (part) => {
    const { individual_digits } = readPart(FIELD, digitsSchema, part);
    return splitter(`${FIELD} Digits`, individual_digits ? String.raw`\p{N}` : String.raw`\p{N}+`, "Isolated");
  },
  Metaspace: metaspace,
  Split: (part) => {
    const { pattern, behavior, invert } = readPart(FIELD, splitSchema, part);
    const find = compilePattern(`${FIELD} Split`, pattern);
    return (text) => split(text, find, behavior, invert);
  },
  WhitespaceSplit: (part) => {
    readPart(FIELD, bareSchema, part);
    return splitter(`${FIELD} WhitespaceSplit`, String.raw`\s+`, "Removed");
  },
};

function createStep(part: Part): PreTokenize {
  const create = Object.hasOwn(STEPS, part.type) ? STEPS[part.type] : undefined;
  if (create === undefined) throw unsupportedPart(FIELD, part.type, Object.keys(STEPS));
  return create(part);
}

function splitter(part: string, regex: string, behavior: Behavior): PreTokenize {
  const find = compilePattern(part, { Regex: regex });
  return (text) => split(text, find, behavior, false);
}

function byteLevel(part: Part): PreTokenize {
  const { add_prefix_space, use_regex } = readPart(FIELD, byteLevelSchema, part);
  const words = use_regex ? splitter(`${FIELD} ByteLevel`, BYTE_LEVEL_WORDS, "Isolated") : undefined;
  return (text, isStart) => {
    const prefixed = add_prefix_space && !text.startsWith(" ") ? ` ${text}` : text;
    return (words?.(prefixed, isStart) ?? [prefixed]).map(toByteAlphabet);
  };
}

function metaspace(part: Part): PreTokenize {
  const {
    replacement,
    prepend_scheme,
    split: isSplit,
    add_prefix_space,
    str_rep,
  } = readPart(FIELD, metaspaceSchema, part);
  if (str_rep !== undefined && str_rep !== replacement)
    throw invalidPart(`${FIELD} Metaspace: str_rep is not supported`);
  const scheme = prepend_scheme ?? (add_prefix_space === false ? "never" : "always");
  if (add_prefix_space !== undefined && add_prefix_space === (scheme === "never")) {
    throw invalidPart(`${FIELD} Metaspace: add_prefix_space contradicts prepend_scheme`);
  }
  const marks = compilePattern(`${FIELD} Metaspace`, { String: replacement });
  return (text, isStart) => {
    const marked = text.replaceAll(" ", replacement);
    const isPrefixed = scheme === "always" || (scheme === "first" && isStart);
    const word = isPrefixed && !marked.startsWith(replacement) ? replacement + marked : marked;
    return isSplit ? split(word, marks, "MergedWithNext", false) : [word];
  };
}

interface Span {
  from: number;
  to: number;
  isMatch: boolean;
}

/** @returns the parts of `text`, some of them empty */
function split(text: string, find: FindMatches, behavior: Behavior, invert: boolean): string[] {
  const spans: Span[] = [];
  let end = 0;
  for (const [from, to] of find(text)) {
    if (from > end) spans.push({ from: end, to: from, isMatch: invert });
    spans.push({ from, to, isMatch: !invert });
    end = to;
  }
  if (end < text.length) spans.push({ from: end, to: text.length, isMatch: invert });
  return arrange(spans, behavior).map(({ from, to }) => text.slice(from, to));
}

/** What becomes of the matches: words of their own, joined to a neighbour, or left out. */
function arrange(spans: Span[], behavior: Behavior): Span[] {
  switch (behavior) {
    case "Isolated":
      return spans;
    case "Removed":
      return spans.filter(({ isMatch }) => !isMatch);
    case "Contiguous":
      return joinToLast(spans, (span, last) => span.isMatch === last.isMatch);
    case "MergedWithPrevious":
      return joinToLast(spans, (span, last) => span.isMatch && !last.isMatch);
    case "MergedWithNext":
      return joinToLast(spans.toReversed(), (span, last) => span.isMatch && !last.isMatch).toReversed();
  }
}

/** Joins each span to the one before it where `joins` says so of the two as they were found. */
function joinToLast(spans: readonly Span[], joins: (span: Span, last: Span) => boolean): Span[] {
  const joined: Span[] = [];
  let last: Span | undefined;
  for (const span of spans) {
    const group = joined.at(-1);
    if (last !== undefined && group !== undefined && joins(span, last)) {
      group.from = Math.min(group.from, span.from);
      group.to = Math.max(group.to, span.to);
    } else joined.push({ ...span });
    last = span;
  }
  return joined;
}
