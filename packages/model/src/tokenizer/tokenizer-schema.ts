import { z } from "zod";
import { TokenizerError } from "../errors.ts";

/** A part of tokenizer.json: a normalizer, a pre-tokenizer, … */
export const partSchema = z.looseObject({ type: z.string() });
export type Part = z.infer<typeof partSchema>;

/** What `Replace` and `Split` look for. */
export const patternSchema = z.union([
  z.strictObject({ String: z.string().min(1).max(1024) }),
  z.strictObject({ Regex: z.string().min(1).max(8192) }),
]);
export type Pattern = z.infer<typeof patternSchema>;

/** Parts that a `Sequence` may have in all; those in use have at most five. */
const MAX_PARTS = 64;

/**
 * A part and, if it is a `Sequence`, those it is made of, in order.
 *
 * @param field - which part of tokenizer.json, for errors
 * @param list - the field in which a `Sequence` of this kind keeps its parts
 * @throws TokenizerError TOKENIZER_INVALID
 */
export function flattenPart(field: string, list: string, value: unknown): Part[] {
  if (value === null || value === undefined) return [];
  const part = partSchema.safeParse(value);
  if (!part.success) throw invalidPart(`${field} has no type`);
  if (part.data.type !== "Sequence") return [part.data];
  const parts = part.data[list];
  if (!Array.isArray(parts)) throw invalidPart(`${field} Sequence has no ${list}`);
  const flat = parts.flatMap((inner) => flattenPart(field, list, inner));
  if (flat.length > MAX_PARTS) throw invalidPart(`${field} has more than ${MAX_PARTS} parts`);
  return flat;
}

/**
 * Read a part by its schema. Schemas are strict: the reference obeys every field it knows, so one that is not known here
 * would give other ids without a word.
 *
 * @throws TokenizerError TOKENIZER_INVALID naming the part and the field
 */
export function readPart<T extends z.ZodType>(field: string, schema: T, part: Part): z.infer<T> {
  const parsed = schema.safeParse(part);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0];
  const at = issue?.code === "unrecognized_keys" ? issue.keys.join(", ") : (issue?.path.join(".") ?? "");
  throw invalidPart(`${field} ${part.type}: field "${at}": ${issue?.message}`);
}

export function unsupportedPart(field: string, type: string, supported: readonly string[]): TokenizerError {
  return invalidPart(`${field} ${type} is not supported; supported: ${supported.join(", ")}`);
}

/** @param what - names the part of tokenizer.json */
export function invalidPart(what: string, cause?: unknown): TokenizerError {
  return new TokenizerError("TOKENIZER_INVALID", `tokenizer.json: ${what}`, { cause });
}
