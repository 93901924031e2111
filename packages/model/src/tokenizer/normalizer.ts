import { z } from "zod";
import { PrecompiledCharsmap } from "./precompiled-charsmap.ts";
import { compilePattern } from "./split-pattern.ts";
import { flattenPart, type Part, patternSchema, readPart, unsupportedPart } from "./tokenizer-schema.ts";
import { normalizeAsReference } from "./unicode-version.ts";

export type Normalize = (text: string) => string;

const FIELD = "normalizer";
const formSchema = z.strictObject({ type: z.enum(["NFC", "NFD", "NFKC", "NFKD"]) });
const bareSchema = z.strictObject({ type: z.string() });
const prependSchema = z.strictObject({ type: z.string(), prepend: z.string().max(64) });
const replaceSchema = z.strictObject({ type: z.string(), pattern: patternSchema, content: z.string().max(1024) });
const stripSchema = z.strictObject({ type: z.string(), strip_left: z.boolean(), strip_right: z.boolean() });
const precompiledSchema = z.strictObject({ type: z.string(), precompiled_charsmap: z.string().nullable() });

/**
 * @param value - `normalizer` of tokenizer.json
 * @returns what it does to a stretch of text; undefined when there is none
 * @throws TokenizerError TOKENIZER_INVALID naming the part that is not supported
 */
export function createNormalizer(value: unknown): Normalize | undefined {
  if (value === null || value === undefined) return undefined;
  const steps = flattenPart(FIELD, "normalizers", value).map(createStep);
  return (text) => steps.reduce((normalized, step) => step(normalized), text);
}

/**
 * What a normalizer replaces and by what, when it does nothing but put a text in front (`Prepend`) and replace strings:
 * such a normalizer leaves every other text as it is. Undefined for any other normalizer.
 */
export function replacedStrings(value: unknown): string[] | undefined {
  const strings: string[] = [];
  for (const part of flattenPart(FIELD, "normalizers", value)) {
    if (part.type === "Prepend") continue;
    const pattern = part.type === "Replace" ? readPart(FIELD, replaceSchema, part).pattern : undefined;
    if (pattern === undefined || !("String" in pattern)) return undefined;
    strings.push(pattern.String, readPart(FIELD, replaceSchema, part).content);
  }
  return strings;
}

const STEPS: Readonly<Record<string, (part: Part) => Normalize>> = {
  NFC: unicodeForm,
  NFD: unicodeForm,
  NFKC: unicodeForm,
  NFKD: unicodeForm,
  Lowercase: (part) => {
    readPart(FIELD, bareSchema, part);
    return lowercase;
  },
  Nmt: (part) => {
    readPart(FIELD, bareSchema, part);
    return nmt;
  },
  Prepend: (part) => {
    const { prepend } = readPart(FIELD, prependSchema, part);
    return (text) => (text === "" ? text : prepend + text);
  },
  Replace: (part) => {
    const { pattern, content } = readPart(FIELD, replaceSchema, part);
    if ("String" in pattern) return (text) => text.replaceAll(pattern.String, () => content);
    const replaceMatches = compilePattern(`${FIELD} Replace`, pattern);
    return (text) => {
      let replaced = "";
      let end = 0;
      for (const [from, to] of replaceMatches(text)) {
        replaced += text.slice(end, from) + content;
        end = to;
      }
      return replaced + text.slice(end);
    };
  },
  Strip: (part) => {
    const { strip_left, strip_right } = readPart(FIELD, stripSchema, part);
    return (text) => {
      const left = strip_left ? text.replace(/^\p{White_Space}+/u, "") : text;
      return strip_right ? left.slice(0, trimmedEnd(left)) : left;
    };
  },
  Precompiled: (part) => {
    const { precompiled_charsmap: map } = readPart(FIELD, precompiledSchema, part);
    // An empty map changes nothing; older files write one.
    if (map === null || map === "") return (text) => text;
    const charsmap = new PrecompiledCharsmap(map);
    return (text) => charsmap.normalize(text);
  },
};

function createStep(part: Part): Normalize {
  const create = Object.hasOwn(STEPS, part.type) ? STEPS[part.type] : undefined;
  if (create === undefined) throw unsupportedPart(FIELD, part.type, Object.keys(STEPS));
  return create(part);
}

function unicodeForm(part: Part): Normalize {
  const form = readPart(FIELD, formSchema, part).type;
  return (text) => normalizeAsReference(text, form);
}

/** As the reference, a letter at a time: JavaScript alone writes a sigma at the end of a word differently. */
function lowercase(text: string): string {
  return text
    .split("\u03a3")
    .map((stretch) => stretch.toLowerCase())
    .join("\u03c3");
}

/** SentencePiece's cleaning for translation: control characters go, white space and its look-alikes become spaces. */
function nmt(text: string): string {
  return text
    .replaceAll(/[\t\n\f\r\u1680\u200b-\u200f\u2028\u2029\u2581\ufeff\ufffd]/g, " ")
    .replaceAll(/\p{Cc}/gu, (control) => (isKeptByNmt(control.charCodeAt(0)) ? control : ""));
}

/** NUL and most of the second block of control characters; nobody knows why. */
function isKeptByNmt(control: number): boolean {
  return control === 0 || (control >= 0x80 && control !== 0x8f && control !== 0x9f);
}

const WHITE_SPACE = /^\p{White_Space}$/u;

/** Where the text ends without the white space behind it. A regular expression would look at each gap in turn. */
function trimmedEnd(text: string): number {
  let end = text.length;
  while (end > 0 && WHITE_SPACE.test(text[end - 1] as string)) end--;
  return end;
}
