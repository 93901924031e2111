import { FinishReasonSchema, ModeSchema, type PersonaProof, PositionsSchema } from "@persona-mesh/protocol";
import type { Reply } from "../reply.ts";
import { enumName } from "./enum-name.ts";

/** A reply as `--json` prints it: text, proof, counts, figures, timings. */
export function replyJson(reply: Reply) {
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
    tokens: { prompt: finished.promptTokens, completion: finished.completionTokens },
    effectiveAlpha: finished.effectiveAlphaHundredths / 100,
    meanEntropy: short(finished.meanEntropy),
    meanSurprisal: short(finished.meanSurprisal),
    repetition: short(finished.repetition),
    timings: {
      queueMillis: short(finished.queueMillis),
      prefillMillis: short(finished.prefillMillis),
      decodeMillis: short(finished.decodeMillis),
      firstTokenMillis: reply.firstTokenMillis === undefined ? null : short(reply.firstTokenMillis),
      totalMillis: short(reply.totalMillis),
      tokensPerSecond: short(tokensPerSecond(reply)),
    },
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
