import type { GenerateRequest, LogitBias } from "@persona-mesh/protocol";
import { type FieldViolation, ServiceError } from "@persona-mesh/service";
import {
  type LogitEditParameters,
  MAX_STOP_CHARACTERS,
  MAX_STOPS,
  MAX_TEMPERATURE,
  RULED_OUT,
  type SamplingParameters,
} from "../sampling/index.ts";
import type { Worker } from "../worker.ts";
import { gainViolations } from "./persona-selection.ts";
import { range } from "./range.ts";

const DEFAULT_MAX_TOKENS = 256;

/** Alternatives per token: what other generation services allow. */
const MAX_TOP_LOG_PROBS = 20;

/** A smaller one would take logits out of the range of float32. */
const MIN_REPETITION_PENALTY = 0.001;
const MAX_REPETITION_PENALTY = 10;
/** Of presence and frequency penalties, either sign. */
const MAX_PENALTY = 2;
const MAX_BIAS = -RULED_OUT;
const MAX_BIASES = 1024;
const MAX_STOP_TOKENS = 64;
const MAX_CHOICES = 16;

/** How replies are drawn and when they end: a request's fields, checked. */
export interface ReplySettings {
  readonly sampling: SamplingParameters;
  readonly edits: LogitEditParameters;
  readonly maxTokens: number;
  readonly stops: readonly string[];
  /** The model's tokens that end a reply. */
  readonly endTokens: ReadonlySet<number>;
  /** The caller's. */
  readonly stopTokens: ReadonlySet<number>;
  readonly topLogProbs: number;
  readonly choices: number;
}

/** Every wrong field at once. @throws ServiceError INVALID_ARGUMENT */
export function replySettings({ model }: Pick<Worker, "model">, request: GenerateRequest): ReplySettings {
  const { tokens, spec } = model.manifest;
  const { sampling, topLogProbs, stop, minTokens } = request;
  const maxTokens = request.maxTokens ?? DEFAULT_MAX_TOKENS;
  const endTokens = new Set(request.ignoreEos ? [] : tokens.eos);
  const stopTokens = new Set(request.stopTokenIds);
  const settings: ReplySettings = {
    sampling: {
      temperature: sampling?.temperature ?? 1,
      topK: sampling?.topK ?? 0,
      topP: sampling?.topP ?? 1,
      minP: sampling?.minP ?? 0,
    },
    edits: {
      repetitionPenalty: sampling?.repetitionPenalty ?? 1,
      presencePenalty: sampling?.presencePenalty ?? 0,
      frequencyPenalty: sampling?.frequencyPenalty ?? 0,
      bias: new Map(sampling?.logitBias.map(({ id, bias }) => [id, bias])),
      endTokens: endTokens.union(stopTokens),
      minTokens,
    },
    maxTokens,
    stops: stop,
    endTokens,
    stopTokens,
    topLogProbs,
    choices: request.n ?? 1,
  };
  const violations = [
    ...samplingViolations(settings),
    ...biasViolations(sampling?.logitBias ?? [], spec.vocabulary),
    ...range("max_tokens", maxTokens, 1, Number.POSITIVE_INFINITY),
    ...range("min_tokens", minTokens, 0, maxTokens),
    ...range("top_log_probs", topLogProbs, 0, MAX_TOP_LOG_PROBS),
    ...range("n", settings.choices, 1, MAX_CHOICES),
    ...stopViolations(stop),
    ...stopTokenViolations(request.stopTokenIds, spec.vocabulary),
    ...nothingLeft(settings.edits, spec.vocabulary),
    ...gainViolations(request.persona),
  ];
  if (violations.length > 0) throw ServiceError.invalid(violations);
  return settings;
}

function samplingViolations({ sampling, edits }: ReplySettings): FieldViolation[] {
  return [
    ...range("sampling.temperature", sampling.temperature, 0, MAX_TEMPERATURE),
    ...aboveZero("sampling.top_p", sampling.topP, 1),
    ...range("sampling.min_p", sampling.minP, 0, 1),
    ...range("sampling.repetition_penalty", edits.repetitionPenalty, MIN_REPETITION_PENALTY, MAX_REPETITION_PENALTY),
    ...range("sampling.presence_penalty", edits.presencePenalty, -MAX_PENALTY, MAX_PENALTY),
    ...range("sampling.frequency_penalty", edits.frequencyPenalty, -MAX_PENALTY, MAX_PENALTY),
  ];
}

function biasViolations(biases: readonly LogitBias[], vocabulary: number): FieldViolation[] {
  const field = "sampling.logit_bias";
  if (biases.length > MAX_BIASES) return [{ field, description: `${biases.length} tokens, at most ${MAX_BIASES}` }];
  const seen = new Set<number>();
  return biases.flatMap(({ id, bias }, index) => {
    const at = `${field}[${index}]`;
    const isTwice = seen.has(id);
    seen.add(id);
    return [
      ...(id < vocabulary ? [] : [{ field: `${at}.id`, description: `must be below ${vocabulary}` }]),
      ...(isTwice ? [{ field: `${at}.id`, description: `token ${id} is there twice` }] : []),
      ...range(`${at}.bias`, bias, -MAX_BIAS, MAX_BIAS),
    ];
  });
}

function stopViolations(stops: readonly string[]): FieldViolation[] {
  if (stops.length > MAX_STOPS)
    return [{ field: "stop", description: `${stops.length} strings, at most ${MAX_STOPS}` }];
  return stops.flatMap((stop, index) => {
    const characters = [...stop].length;
    const fits = characters >= 1 && characters <= MAX_STOP_CHARACTERS && stop.isWellFormed();
    return fits ? [] : [{ field: `stop[${index}]`, description: `must have 1 to ${MAX_STOP_CHARACTERS} characters` }];
  });
}

function stopTokenViolations(ids: readonly number[], vocabulary: number): FieldViolation[] {
  const field = "stop_token_ids";
  if (ids.length > MAX_STOP_TOKENS) return [{ field, description: `${ids.length} tokens, at most ${MAX_STOP_TOKENS}` }];
  return ids.flatMap((id, index) =>
    id < vocabulary ? [] : [{ field: `${field}[${index}]`, description: `must be below ${vocabulary}` }],
  );
}

/** A small vocabulary can be ruled out whole. */
function nothingLeft({ bias, endTokens, minTokens }: LogitEditParameters, vocabulary: number): FieldViolation[] {
  const ruledOut = new Set([...bias].flatMap(([id, value]) => (value <= RULED_OUT ? [id] : [])));
  const all = minTokens > 0 ? ruledOut.union(endTokens) : ruledOut;
  return all.size < vocabulary ? [] : [{ field: "sampling.logit_bias", description: "rules every token out" }];
}

function aboveZero(field: string, value: number, most: number): FieldViolation[] {
  return value > 0 && value <= most ? [] : [{ field, description: `${value} is not above 0 and at most ${most}` }];
}
