import { create } from "@bufbuild/protobuf";
import { type PersonaProof, PersonaProofSchema } from "@persona-mesh/protocol";
import { effectiveAlpha } from "@persona-mesh/steering";
import type { LoadedPersona } from "../personas/loaded-persona.ts";
import { modeOf, positionsOf } from "./steering-words.ts";

/** The persona as it acts, for the caller. */
export function personaProof(persona: LoadedPersona, gain: number): PersonaProof {
  return create(PersonaProofSchema, {
    name: persona.name,
    revision: persona.revision,
    versionDigests: [...persona.versionDigests],
    mode: modeOf(persona.mode),
    positions: positionsOf(persona.positions),
    outcome: persona.outcome,
    doses: persona.doses.map(({ layer, dose }) => ({ layer, dose: dose * gain })),
    effectiveAlphaHundredths: effectiveAlpha([persona.largestAlphaHundredths], gain),
  });
}

/** What is logged of the steering of every request. */
export function steeringFields(persona: LoadedPersona | undefined, gain: number): Record<string, unknown> {
  return {
    persona: persona?.name ?? null,
    revision: persona?.revision ?? null,
    alpha: persona === undefined ? 0 : effectiveAlpha([persona.largestAlphaHundredths], gain) / 100,
    layers: persona === undefined ? [] : [...persona.rows.keys()],
  };
}
