import {
  COHERENCE_BASELINE_FIELDS,
  type CoherenceBaseline,
  coherenceBaseline,
  requireBaseline,
} from "./coherence-baseline.ts";
import { SteeringError } from "./error.ts";
import type { BaselineReply } from "./guard-band.ts";
import type { Reply } from "./reply.ts";

/**
 * What replies of one unsteered model are like, kept in a file beside the model: entropies token by token, from which the
 * band of any window follows, and the figures that coherence is scored against.
 *
 * No text can be read from it: of the tokens it keeps only which ones of a reply are the same.
 */
export interface GuardBaseline {
  /** The model that wrote the replies: holds for no other. */
  readonly modelChecksum: string;
  /** The graph that computed them: another precision of the same model differs little. */
  readonly graphDigest: string;
  /** One for each way of sampling, at least one; entropies depend on what was written before, and so on the temperature. */
  readonly samples: readonly BaselineSample[];
}

export interface BaselineSample {
  readonly temperature: number;
  /** Where replies were cut. */
  readonly maxTokens: number;
  readonly coherence: CoherenceBaseline;
  readonly replies: readonly BaselineReply[];
}

/** Longest file that is read. A thousand replies of 200 tokens take 800 kB. */
export const MAX_GUARD_BASELINE_BYTES = 16 << 20;

const FORMAT = "persona-guard-baseline";
const FORMAT_VERSION = 1;

/** Each more is a temperature of its own. */
const MAX_SAMPLES = 8;
const MAX_REPLIES = 10_000;

/** Two digits to this base say a token's number within its reply, or an entropy in hundredths of a nat: ln of 400,000 words. */
const BASE = 36;
const DIGITS = 2;
const MAX_CODE = BASE ** DIGITS - 1;

/** Of a reply the beginning is kept: what two digits can number. */
export const MAX_BASELINE_REPLY_TOKENS = 1024;

/**
 * Measure a sample of a baseline from unsteered replies.
 *
 * @throws SteeringError BASELINE_INVALID for too few replies or no entropy at all; as `measureReply` for a bad one
 */
export function baselineSample(
  replies: readonly Reply[],
  sampling: Pick<BaselineSample, "temperature" | "maxTokens">,
): BaselineSample {
  const { temperature, maxTokens } = sampling;
  return {
    temperature,
    maxTokens,
    coherence: coherenceBaseline(replies),
    replies: replies.map(({ tokenIds, entropies }) => ({
      tokens: numbered(Array.from(tokenIds).slice(0, MAX_BASELINE_REPLY_TOKENS)),
      entropies: Array.from(entropies, rounded).slice(0, MAX_BASELINE_REPLY_TOKENS),
    })),
  };
}

/** The sample made in the way that is most like a request's. */
export function sampleFor({ samples }: GuardBaseline, temperature: number): BaselineSample {
  return samples.reduce((nearest, sample) =>
    Math.abs(sample.temperature - temperature) < Math.abs(nearest.temperature - temperature) ? sample : nearest,
  );
}

/** The file of a baseline: JSON, one line for each reply. */
export function encodeGuardBaseline({ modelChecksum, graphDigest, samples }: GuardBaseline): string {
  const written = samples.map(({ replies, ...sample }) => {
    const lines = replies.map(({ tokens, entropies }) =>
      JSON.stringify([codes(tokens), codes(Array.from(entropies, (nats) => Math.round(nats * 100)))]),
    );
    const { coherence, temperature, maxTokens } = sample;
    return `${JSON.stringify({ temperature, maxTokens, coherence }).slice(0, -1)},"replies":[\n${lines.join(",\n")}\n]}`;
  });
  const head = JSON.stringify({ format: FORMAT, formatVersion: FORMAT_VERSION, modelChecksum, graphDigest });
  return `${head.slice(0, -1)},"samples":[\n${written.join(",\n")}\n]}\n`;
}

/**
 * Read the file of a baseline.
 *
 * @throws SteeringError BASELINE_INVALID naming the field
 */
export function decodeGuardBaseline(text: string): GuardBaseline {
  if (text.length > MAX_GUARD_BASELINE_BYTES) {
    return invalid("the file", `has over ${MAX_GUARD_BASELINE_BYTES} characters`);
  }
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch (error) {
    return invalid("the file", `is not JSON: ${(error as Error).message}`);
  }
  const file = fields(parsed, "the file", ["format", "formatVersion", "modelChecksum", "graphDigest", "samples"]);
  if (file["format"] !== FORMAT || file["formatVersion"] !== FORMAT_VERSION) {
    return invalid("format", `is not ${FORMAT}, version ${FORMAT_VERSION}`);
  }
  const samples = list(file["samples"], "samples", 1, MAX_SAMPLES).map((sample, i) =>
    decodeSample(sample, `samples[${i}]`),
  );
  return {
    modelChecksum: digest(file["modelChecksum"], "modelChecksum"),
    graphDigest: digest(file["graphDigest"], "graphDigest"),
    samples,
  };
}

function decodeSample(value: unknown, where: string): BaselineSample {
  const sample = fields(value, where, ["temperature", "maxTokens", "coherence", "replies"]);
  const coherence = fields(sample["coherence"], `${where}.coherence`, COHERENCE_BASELINE_FIELDS) as unknown;
  requireBaseline(coherence as CoherenceBaseline);
  return {
    temperature: number(sample["temperature"], `${where}.temperature`, 0, 10),
    maxTokens: number(sample["maxTokens"], `${where}.maxTokens`, 1, Number.MAX_SAFE_INTEGER),
    coherence: coherence as CoherenceBaseline,
    replies: list(sample["replies"], `${where}.replies`, 1, MAX_REPLIES).map((reply, i) =>
      decodeReply(reply, `${where}.replies[${i}]`),
    ),
  };
}

function decodeReply(value: unknown, where: string): BaselineReply {
  const [tokens, hundredths] = list(value, where, 2, 2).map((text) => decodeCodes(text, where)) as [number[], number[]];
  if (tokens.length !== hundredths.length) return invalid(where, "has not one entropy for each token");
  return { tokens, entropies: hundredths.map((entropy) => entropy / 100) };
}

/** Tokens by the order in which they first appear in their reply: the same where they are the same, and nothing else of them. */
function numbered(ids: readonly number[]): number[] {
  const numbers = new Map<number, number>();
  return ids.map((id) => {
    const number = numbers.get(id) ?? numbers.size;
    numbers.set(id, number);
    return number;
  });
}

/** To what the file can hold. */
function rounded(nats: number): number {
  return Math.min(MAX_CODE, Math.max(0, Math.round(nats * 100))) / 100;
}

function codes(values: ArrayLike<number>): string {
  return Array.from(values, (value) => value.toString(BASE).padStart(DIGITS, "0")).join("");
}

function decodeCodes(value: unknown, where: string): number[] {
  const most = MAX_BASELINE_REPLY_TOKENS * DIGITS;
  if (typeof value !== "string" || value.length > most || !/^(?:[0-9a-z]{2})+$/.test(value)) {
    return invalid(where, `is not two texts of pairs of digits, at most ${most}`);
  }
  return Array.from({ length: value.length / DIGITS }, (_, i) =>
    Number.parseInt(value.slice(i * DIGITS, (i + 1) * DIGITS), BASE),
  );
}

function fields(value: unknown, where: string, names: readonly string[]): Record<string, unknown> {
  const isObject = typeof value === "object" && value !== null && !Array.isArray(value);
  if (isObject && Object.keys(value).sort().join() === [...names].sort().join())
    return value as Record<string, unknown>;
  return invalid(where, `has not exactly the fields ${names.join(", ")}`);
}

function list(value: unknown, where: string, least: number, most: number): unknown[] {
  if (Array.isArray(value) && value.length >= least && value.length <= most) return value;
  return invalid(where, `is not a list of ${least} to ${most}`);
}

function number(value: unknown, where: string, least: number, most: number): number {
  if (typeof value === "number" && value >= least && value <= most) return value;
  return invalid(where, `is not a number from ${least} to ${most}`);
}

function digest(value: unknown, where: string): string {
  if (typeof value === "string" && /^[0-9a-f]{64}$/.test(value)) return value;
  return invalid(where, "is not a sha256 in hexadecimal");
}

function invalid(field: string, what: string): never {
  throw new SteeringError("BASELINE_INVALID", `guard baseline: ${field} ${what}`, { field });
}
