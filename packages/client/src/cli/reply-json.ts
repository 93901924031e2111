import {
  type Coherence,
  FinishReasonSchema,
  GuardCauseSchema,
  type GuardEvent,
  ModeSchema,
  type PersonaProof,
  PositionsSchema,
  type TokenLogProb,
  type TwinFigures,
} from "@persona-mesh/protocol";
import type { Reply } from "../reply.ts";
import { enumName } from "./enum-name.ts";

export interface ReplyJsonOptions {
  /** Every token with its log-probability and alternatives. @default false */
  readonly logProbs?: boolean;
}

/** A reply as `--json` prints it: text, proof, counts, figures, timings. */
export function replyJson(reply: Reply, { logProbs = false }: ReplyJsonOptions = {}) {
  const { started, finished, switches } = reply;
  return {
    text: reply.text,
    finishReason: enumName(FinishReasonSchema, finished.reason),
    proof: {
      requestId: started.requestId,
      modelChecksum: started.modelChecksum,
      graphDigest: started.graphDigest,
      // As text: a 64-bit number does not survive JSON readers.
      seed: started.seed.toString(),
      persona: started.persona === undefined ? null : proofJson(started.persona),
    },
    switches: switches.map(({ persona, afterTokens, switchMicros }) => ({
      persona: persona === undefined ? null : proofJson(persona),
      afterTokens,
      switchMicros: short(switchMicros),
    })),
    tokens: {
      prompt: finished.promptTokens,
      cached: finished.cachedPromptTokens,
      completion: finished.completionTokens,
    },
    effectiveAlpha: finished.effectiveAlphaHundredths / 100,
    alphas: finished.alphas.map(({ fromToken, alphaHundredths }) => ({ fromToken, alpha: alphaHundredths / 100 })),
    guardEvents: finished.guardEvents.map(guardJson),
    twin: finished.twin === undefined ? null : twinJson(finished.twin),
    coherence: finished.coherence === undefined ? null : coherenceJson(finished.coherence),
    meanEntropy: short(finished.meanEntropy),
    meanSurprisal: short(finished.meanSurprisal),
    repetition: short(finished.repetition),
    timings: {
      queueMillis: short(finished.queueMillis),
      prefillMillis: short(finished.prefillMillis),
      decodeMillis: short(finished.decodeMillis),
      preemptedMillis: short(finished.preemptedMillis),
      firstTokenMillis: reply.firstTokenMillis === undefined ? null : short(reply.firstTokenMillis),
      totalMillis: short(reply.totalMillis),
      tokensPerSecond: short(tokensPerSecond(reply)),
    },
    ...(logProbs
      ? {
          logProbs: reply.tokens.map(({ id, logProb, entropy, topLogProbs }) => ({
            ...logProbJson({ id, logProb }),
            entropy: short(entropy),
            top: topLogProbs.map(logProbJson),
          })),
        }
      : {}),
    ...(reply.promptTokens.length === 0
      ? {}
      : {
          promptLogProbs: reply.promptTokens.map(({ id, logProb, topLogProbs }) => ({
            ...logProbJson({ id, logProb }),
            top: topLogProbs.map(logProbJson),
          })),
        }),
  };
}

function logProbJson({ id, logProb }: Pick<TokenLogProb, "id" | "logProb">) {
  return { id, logProb: short(logProb) };
}

function guardJson(event: GuardEvent) {
  return {
    afterTokens: event.afterTokens,
    cause: enumName(GuardCauseSchema, event.cause),
    entropyRatio: short(event.entropyRatio),
    repetition: short(event.repetition),
    kl: event.kl === undefined ? null : short(event.kl),
    alphaBefore: event.alphaBeforeHundredths / 100,
    alphaAfter: event.alphaAfterHundredths / 100,
  };
}

function twinJson({ tokens, meanKl, maxKl, meanEntropyDifference }: TwinFigures) {
  return {
    tokens,
    meanKl: short(meanKl),
    maxKl: short(maxKl),
    meanEntropyDifference: short(meanEntropyDifference),
  };
}

function coherenceJson({ score, entropy, surprise, repetition, divergence, entropyRatio }: Coherence) {
  return {
    score: short(score),
    entropy: short(entropy),
    surprise: short(surprise),
    repetition: short(repetition),
    divergence: divergence === undefined ? null : short(divergence),
    entropyRatio: short(entropyRatio),
  };
}

export function proofJson(proof: PersonaProof) {
  return {
    name: proof.name,
    revision: proof.revision,
    versionDigests: proof.versionDigests,
    mode: enumName(ModeSchema, proof.mode),
    positions: enumName(PositionsSchema, proof.positions),
    outcome: proof.outcome,
    doses: proof.doses.map(({ layer, dose }) => ({ layer, dose: short(dose) })),
    effectiveAlpha: proof.effectiveAlphaHundredths / 100,
  };
}

/** Tokens per second of decoding; 0 where nothing was decoded. */
export function tokensPerSecond({ finished }: Reply): number {
  return finished.decodeMillis > 0 ? (finished.completionTokens / finished.decodeMillis) * 1000 : 0;
}

/** As many digits as a float32 has: the rest is an artefact of widening it. */
function short(value: number): number {
  return Number(value.toPrecision(7));
}
