import { z } from "zod";
import { TokenizerError } from "../errors.ts";

/**
 * How the tokens of a vocabulary spell bytes, so that any run of tokens can be decoded by joining bytes.
 *
 * Two families cover the decoders in use: byte-level BPE, where each character of a token stands for a byte, and
 * SentencePiece, where `▁` is a space and `<0xNN>` a byte.
 */
export interface TokenSpelling {
  /** Bytes of a token of the model's vocabulary. */
  bytesOf(token: string): Uint8Array;
  /** Spaces that decoding drops at the very start of a text, because encoding put them there. */
  readonly leadingSpaces: number;
}

const decoderSchema = z.looseObject({ type: z.string() });
const sequenceSchema = z.looseObject({ decoders: z.array(decoderSchema) });
const replaceSchema = z.looseObject({ pattern: z.object({ String: z.string().min(1) }), content: z.string() });
const stripSchema = z.looseObject({ content: z.literal(" "), start: z.int().min(0).max(8), stop: z.literal(0) });
const metaspaceSchema = z.looseObject({
  replacement: z.string().min(1).default("\u2581"),
  prepend_scheme: z.enum(["always", "first", "never"]).default("always"),
});

/**
 * @param decoder - the `decoder` of tokenizer.json
 * @throws TokenizerError TOKENIZER_INVALID naming the part that is not supported
 */
export function tokenSpelling(decoder: unknown): TokenSpelling {
  const parts = flatten(decoder);
  if (parts.length > 0 && parts.every(({ type }) => type === "ByteLevel")) {
    return { bytesOf: byteLevelBytes, leadingSpaces: 0 };
  }
  const replacements: [string, string][] = [];
  let byteFallback = false;
  let leadingSpaces = 0;
  for (const part of parts) {
    switch (part.type) {
      case "Replace": {
        const { pattern, content } = read(replaceSchema, part);
        replacements.push([pattern.String, content]);
        break;
      }
      case "Metaspace": {
        const { replacement, prepend_scheme } = read(metaspaceSchema, part);
        replacements.push([replacement, " "]);
        leadingSpaces = prepend_scheme === "never" ? 0 : 1;
        break;
      }
      case "Strip":
        leadingSpaces = read(stripSchema, part).start;
        break;
      case "ByteFallback":
        byteFallback = true;
        break;
      case "Fuse":
        break;
      default:
        throw unsupported(part.type);
    }
  }
  if (replacements.length === 0) throw unsupported("no replacement of the word mark");
  const encoder = new TextEncoder();
  return {
    bytesOf: (token) => {
      const byte = byteFallback ? /^<0x([0-9A-F]{2})>$/.exec(token)?.[1] : undefined;
      if (byte !== undefined) return Uint8Array.of(Number.parseInt(byte, 16));
      return encoder.encode(replacements.reduce((text, [from, to]) => text.replaceAll(from, to), token));
    },
    leadingSpaces,
  };
}

/** A decoder and those it is made of, in order. */
function flatten(decoder: unknown): z.infer<typeof decoderSchema>[] {
  if (decoder === null || decoder === undefined) throw unsupported("null");
  const part = read(decoderSchema, decoder);
  return part.type === "Sequence" ? read(sequenceSchema, part).decoders.flatMap(flatten) : [part];
}

function read<T extends z.ZodType>(schema: T, value: unknown): z.infer<T> {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  throw unsupported(JSON.stringify(value)?.slice(0, 120) ?? "undefined");
}

function unsupported(what: string): TokenizerError {
  return new TokenizerError(
    "TOKENIZER_INVALID",
    `tokenizer.json: decoder ${what} is not supported; supported: ByteLevel, or a sequence of Replace, ByteFallback, Fuse, Strip, Metaspace`,
  );
}

/**
 * Byte of each character of the byte-level alphabet: printable Latin-1 stands for itself, the other 68 bytes follow from
 * U+0100 on, in order (as in GPT-2's encoder).
 */
const BYTE_OF_CHARACTER: ReadonlyMap<string, number> = (() => {
  const isPrintable = (byte: number) =>
    (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || (byte >= 0xae && byte <= 0xff);
  const map = new Map<string, number>();
  let next = 0x100;
  for (let byte = 0; byte < 256; byte++) map.set(String.fromCharCode(isPrintable(byte) ? byte : next++), byte);
  return map;
})();

function byteLevelBytes(token: string): Uint8Array {
  return Uint8Array.from(token, (character) => {
    const byte = BYTE_OF_CHARACTER.get(character);
    if (byte === undefined) {
      throw new TokenizerError(
        "TOKENIZER_INVALID",
        `tokenizer.json: token ${JSON.stringify(token)} is not in the byte-level alphabet`,
      );
    }
    return byte;
  });
}
