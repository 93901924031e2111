import type { InlinePersona, PersonaSelector } from "@persona-mesh/protocol";
import { type Caller, type FieldViolation, PLATFORM_TENANT, ServiceError } from "@persona-mesh/service";
import { HARD_CAP_HUNDREDTHS, type LayerDirection, SWEEP_CAP_HUNDREDTHS, type Term } from "@persona-mesh/steering";
import { type PersonaSource, WornPersona } from "../engine/worn-persona.ts";
import { type LoadedPersona, loadPersona, modelMismatch } from "../personas/loaded-persona.ts";
import type { Worker } from "../worker.ts";
import { range } from "./range.ts";
import { modeFrom, policyFrom, positionsFrom } from "./steering-words.ts";
import { vectorFrom } from "./tensor.ts";

/**
 * What a call wears.
 *
 * @throws ServiceError PERSONA_NOT_FOUND for unknown and foreign names alike, VERSION_REVOKED, PERSONAS_STALE,
 * PERSONA_NOT_SERVABLE, PERMISSION_DENIED, INVALID_ARGUMENT, VECTOR_FORMAT, MODEL_MISMATCH; SteeringError
 */
export function selectPersona(worker: Worker, caller: Caller, selector: PersonaSelector | undefined): WornPersona {
  const violations = gainViolations(selector);
  if (violations.length > 0) throw ServiceError.invalid(violations);
  const gain = selector?.gain ?? 1;
  return new WornPersona(worker.table, {
    ...sourceOf(worker, caller, selector),
    gain,
    standing: (worn) => worker.personas.standing(worn),
  });
}

export function gainViolations(selector: PersonaSelector | undefined): FieldViolation[] {
  return range("persona.gain", selector?.gain ?? 1, 0, 1);
}

/** One persona from beginning to end, or none. */
export function wear({ table, personas }: Worker, persona: LoadedPersona | undefined, gain = 1): WornPersona {
  return new WornPersona(table, { ...fixed(persona), gain, standing: (worn) => personas.standing(worn) });
}

function sourceOf(
  worker: Worker,
  caller: Caller,
  selector: PersonaSelector | undefined,
): Pick<PersonaSource, "current" | "follow" | "next"> {
  const { personas } = worker;
  const { tenant } = caller;
  const selected = selector?.selector;
  switch (selected?.case) {
    case "name": {
      const persona = personas.find(tenant, selected.value);
      if (persona === undefined) {
        throw new ServiceError("PERSONA_NOT_FOUND", "the caller's tenant has no such persona");
      }
      return fixed(persona);
    }
    case "revision":
      return fixed(pinned(personas, tenant, selected.value));
    case "unsteered":
      return fixed(undefined);
    case "inline": {
      if (!caller.roles.has("service")) {
        throw new ServiceError("PERMISSION_DENIED", "inline vectors need the role service");
      }
      if (selected.value.sweep && caller.tenant !== PLATFORM_TENANT) {
        throw new ServiceError("PERMISSION_DENIED", "sweeps are for services of the platform, never for a tenant");
      }
      return fixed(inlinePersona(worker, selected.value));
    }
    case "active":
    case undefined:
      return selected?.case === "active" && selected.value.follow
        ? { current: () => personas.active(tenant), follow: true, next: (worn) => personas.followed(tenant, worn) }
        : fixed(personas.active(tenant));
  }
}

/** The persona as of one revision, as long as that is one served. @param revision - "NAME/revisions/REVISION" */
function pinned(personas: Worker["personas"], tenant: string, revision: string): LoadedPersona {
  const name = revision.replace(/\/revisions\/[^/]*$/, "");
  // First, as a released revision in trouble is no concern of a call that pins the active one.
  const active = activeOf(personas, tenant, name);
  if (active?.revisionName === revision) return active;
  const released = personas.find(tenant, name);
  if (released?.revisionName === revision) return released;
  if (released === undefined) throw new ServiceError("PERSONA_NOT_FOUND", "the caller's tenant has no such persona");
  const served = released.revisionName;
  throw new ServiceError("REVISION_NOT_SERVED", `this worker serves ${served}, not ${revision}`, {
    metadata: { served },
  });
}

/** The active persona where it has this name: its revision may be older than the one released. */
function activeOf(personas: Worker["personas"], tenant: string, name: string): LoadedPersona | undefined {
  try {
    const active = personas.active(tenant);
    return active?.name === name ? active : undefined;
  } catch {
    // What is wrong with it concerns the calls that ask for it.
    return undefined;
  }
}

function fixed(persona: LoadedPersona | undefined): Pick<PersonaSource, "current" | "follow"> {
  return { current: () => persona, follow: false };
}

function inlinePersona({ model }: Worker, inline: InlinePersona): LoadedPersona {
  const { modelChecksum, spec } = model.manifest;
  const terms = inline.terms.map((term, index): Term => {
    const field = `persona.inline.terms[${index}]`;
    if (term.modelChecksum !== modelChecksum) throw modelMismatch(field, term.modelChecksum, modelChecksum);
    const directions = new Map<number, LayerDirection>();
    for (const [at, { layer, direction, referenceNorm }] of term.directions.entries()) {
      if (directions.has(layer)) {
        throw new ServiceError("LAYER_OUT_OF_RANGE", `${field} has two directions at layer ${layer}`);
      }
      directions.set(layer, {
        direction: vectorFrom(direction, `${field}.directions[${at}].direction`),
        referenceNorm,
      });
    }
    return { id: `term ${index}`, alphaHundredths: term.alphaHundredths, directions };
  });
  return loadPersona(
    {
      name: "",
      mode: modeFrom(inline.mode),
      positions: positionsFrom(inline.positions),
      policy: policyFrom(inline.policy),
      terms,
      versionDigests: [],
      capHundredths: inline.sweep ? SWEEP_CAP_HUNDREDTHS : HARD_CAP_HUNDREDTHS,
      anyDose: inline.sweep,
    },
    { modelChecksum, hidden: spec.hidden, layers: spec.layers },
  );
}
