import { z } from "zod";
import { LocalError } from "./local-error.ts";

/**
 * What a vector is extracted from: contrastive pairs, which differ in the concept alone, and a baseline, which has
 * nothing to do with it.
 */

/** One prompt with two replies: with the concept, and without it. */
export interface ContrastPair {
  readonly prompt: string;
  readonly positive: string;
  readonly negative: string;
  /** System line in front of both. */
  readonly system?: string | undefined;
}

/** One unsteered exchange, as the model is used. */
export interface ReplySample {
  readonly prompt: string;
  readonly response: string;
  readonly system?: string | undefined;
}

/** Longest text of one sample, characters: over any context, so that the server's own limit is what is met first. */
const MAX_TEXT = 1 << 16;

/** As many samples as a file may have; extraction itself takes fewer pairs. */
const MAX_SAMPLES = 1 << 14;

const text = z.string().max(MAX_TEXT);
const pair = z.object({ prompt: text.min(1), positive: text.min(1), negative: text.min(1), system: text.optional() });
const pairsFile = z.object({ pairs: z.array(pair).min(1).max(MAX_SAMPLES) });
const tonesFile = z.object({ tones: z.record(z.string(), z.unknown()) });
const sample = z.object({ prompt: text.min(1), response: text.min(1), system: text.optional() });
const baselineFile = z.object({ samples: z.array(sample).min(1).max(MAX_SAMPLES) });

/**
 * Pairs from a file of one concept, `{"pairs": [{"prompt", "positive", "negative"}]}`, or of several,
 * `{"tones": {"cheerful": {"pairs": [...]}}}`.
 *
 * @param tone - which concept of a file of several
 * @param where - the file's name, for messages
 * @throws LocalError FILE_INVALID naming the field, or the tones that there are
 */
export function parsePairs(value: unknown, tone: string | undefined, where: string): ContrastPair[] {
  const several = tonesFile.safeParse(value);
  if (!several.success) {
    if (tone !== undefined && isRecord(value) && "pairs" in value) {
      throw new LocalError("FILE_INVALID", `${where} holds one concept and no tones: leave the tone "${tone}" out`);
    }
    return parse(pairsFile, value, where).pairs;
  }
  const tones = several.data.tones;
  const known = Object.keys(tones).join(", ") || "none";
  if (tone === undefined) throw new LocalError("FILE_INVALID", `${where} holds several tones; choose one of: ${known}`);
  if (!Object.hasOwn(tones, tone)) {
    throw new LocalError("FILE_INVALID", `${where} has no tone "${tone}"; it has: ${known}`);
  }
  return parse(pairsFile, tones[tone], `${where}, tone "${tone}"`).pairs;
}

/**
 * Samples of a baseline file, `{"samples": [{"prompt", "response"}]}`.
 *
 * @throws LocalError FILE_INVALID naming the field
 */
export function parseBaseline(value: unknown, where: string): ReplySample[] {
  return parse(baselineFile, value, where).samples;
}

function parse<Output>(schema: z.ZodType<Output>, value: unknown, where: string): Output {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0];
  const field = issue?.path.map(String).join(".") || "the whole";
  throw new LocalError("FILE_INVALID", `${where}, ${field}: ${issue?.message}`);
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null;
}
