import { z } from "zod";
import { fromByteAlphabet } from "./byte-alphabet.ts";
import { flattenPart, invalidPart, type Part, readPart } from "./tokenizer-schema.ts";

/** What a token stands for: text, or one byte of a character that the vocabulary does not have. */
export interface TokenText {
  readonly bytes: Uint8Array;
  /** Whether the token is a byte of a run in which either all is UTF-8 or nothing is. See {@link StreamingDecoder}. */
  readonly isByte: boolean;
}

/** How the tokens of a vocabulary become text: `decoder` of tokenizer.json. */
export interface TokenDecoder {
  /**
   * @param token - as the vocabulary spells it; added tokens too
   * @param isFirst - whether it is the first token of a text
   */
  textOf(token: string, isFirst: boolean): TokenText;
  /** Spaces that are dropped at the very start of a text, because encoding put them there. */
  readonly leadingSpaces: number;
}

const FIELD = "decoder";
const SUPPORTED =
  "ByteLevel; Metaspace; or a Sequence of Replace, ByteFallback, Fuse, Strip, in this order, some of them left out";

const bareSchema = z.looseObject({ type: z.string() });
const replaceSchema = z.strictObject({
  type: z.string(),
  pattern: z.strictObject({ String: z.string().min(1).max(64) }),
  content: z.string().max(64),
});
const stripSchema = z.strictObject({
  type: z.string(),
  content: z.literal(" "),
  start: z.int().min(0).max(8),
  stop: z.literal(0),
});
const metaspaceSchema = z.strictObject({
  type: z.string(),
  replacement: z.string().min(1),
  prepend_scheme: z.enum(["always", "first", "never"]).optional(),
  // About encoding.
  split: z.boolean().optional(),
  add_prefix_space: z.boolean().optional(),
  str_rep: z.string().optional(),
});

const ORDER = ["Replace", "ByteFallback", "Fuse", "Strip"];

const encoder = new TextEncoder();

/**
 * @param value - `decoder` of tokenizer.json
 * @throws TokenizerError TOKENIZER_INVALID naming the part that is not supported
 */
export function createTokenDecoder(value: unknown): TokenDecoder {
  const parts = flattenPart(FIELD, "decoders", value);
  const [only] = parts;
  if (only === undefined) throw refuse("null");
  if (parts.length === 1 && only.type === "ByteLevel") return byteLevelDecoder();
  if (parts.length === 1 && only.type === "Metaspace") return metaspaceDecoder(only);
  return sentencePieceDecoder(parts);
}

function byteLevelDecoder(): TokenDecoder {
  return {
    // A token in another alphabet stands for its characters, as added tokens mostly do.
    textOf: (token) => ({ bytes: fromByteAlphabet(token) ?? encoder.encode(token), isByte: false }),
    leadingSpaces: 0,
  };
}

function metaspaceDecoder(part: Part): TokenDecoder {
  const { replacement, prepend_scheme, add_prefix_space } = readPart(FIELD, metaspaceSchema, part);
  const scheme = prepend_scheme ?? (add_prefix_space === false ? "never" : "always");
  // The reference drops all marks of the first token, not only the one that encoding put there.
  const dropsFirst = scheme !== "never";
  return {
    textOf: (token, isFirst) => ({
      bytes: encoder.encode(token.replaceAll(replacement, isFirst && dropsFirst ? "" : " ")),
      isByte: false,
    }),
    leadingSpaces: 0,
  };
}

function sentencePieceDecoder(parts: readonly Part[]): TokenDecoder {
  const replacements: (readonly [string, string])[] = [];
  let hasBytes = false;
  let isFused = false;
  let leadingSpaces = 0;
  let reached = 0;
  for (const part of parts) {
    const step = ORDER.indexOf(part.type);
    if (step === -1) throw refuse(part.type);
    if (step < reached || (step > 0 && step === reached)) throw refuse(`${part.type} at this place`);
    reached = step;
    if (part.type === "Replace") {
      const { pattern, content } = readPart(FIELD, replaceSchema, part);
      replacements.push([pattern.String, content]);
    } else if (part.type === "Strip") {
      // Without Fuse it would be the start of each token.
      if (!isFused) throw refuse("Strip without Fuse");
      leadingSpaces = readPart(FIELD, stripSchema, part).start;
    } else {
      readPart(FIELD, bareSchema, part);
      hasBytes ||= part.type === "ByteFallback";
      isFused ||= part.type === "Fuse";
    }
  }
  return {
    textOf: (token) => {
      const text = replacements.reduce((written, [from, to]) => written.replaceAll(from, () => to), token);
      const byte = hasBytes ? /^<0x([0-9A-Fa-f]{2})>$/.exec(text)?.[1] : undefined;
      if (byte !== undefined) return { bytes: Uint8Array.of(Number.parseInt(byte, 16)), isByte: true };
      return { bytes: encoder.encode(text), isByte: false };
    },
    leadingSpaces,
  };
}

function refuse(what: string): Error {
  return invalidPart(`${FIELD} ${what} is not supported; supported: ${SUPPORTED}`);
}
