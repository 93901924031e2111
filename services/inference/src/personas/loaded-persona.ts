import { createHash } from "node:crypto";
import { ServiceError } from "@persona-mesh/service";
import {
  type Composed,
  type CompositionPolicy,
  canonicalJson,
  compose,
  requireComposed,
  type Term,
  toHundredths,
  type VectorVersion,
} from "@persona-mesh/steering";
import type { Positions } from "../engine/row-steering.ts";
import type { PersonaDefinition } from "./persona-file.ts";

/** A persona as it acts: composed for the model that is served. Immutable; a change makes a new one. */
export interface LoadedPersona {
  /** Resource name, or "" for an inline persona. */
  readonly name: string;
  /** What calls report: changes whenever the persona's definition does. The registry's where it comes from there. */
  readonly revision: string;
  /** Resource name of that revision, "…/revisions/…": what a call pins. */
  readonly revisionName: string;
  /** Names the composed rows for good, in the steering table: other rows, other id. */
  readonly rowsId: string;
  readonly mode: "ADD" | "ADD_RENORM";
  readonly positions: Positions;
  readonly versionDigests: readonly string[];
  readonly outcome: Composed["outcome"];
  /** What SCALE multiplied the rows by; 1 otherwise. */
  readonly factor: number;
  /** Delta per steered layer, float32[hidden]. */
  readonly rows: ReadonlyMap<number, Float32Array>;
  /** Ascending by layer. */
  readonly doses: readonly { readonly layer: number; readonly dose: number; readonly referenceNorm: number }[];
  readonly largestAlphaHundredths: number;
}

/** The served model, as far as a persona has to fit it. */
export interface ServedModel {
  readonly modelChecksum: string;
  readonly hidden: number;
  readonly layers: number;
}

/** What a persona is made of, from a file or from a request. */
export interface PersonaParts {
  readonly name: string;
  /** @default an id of the composed rows */
  readonly revision?: string;
  /** @default made of name and revision */
  readonly revisionName?: string;
  readonly mode: "ADD" | "ADD_RENORM";
  readonly positions: Positions;
  readonly policy: CompositionPolicy;
  readonly terms: readonly Term[];
  /** One per term. */
  readonly versionDigests: readonly string[];
  readonly capHundredths: number;
  /** As an evaluation sweep has it. @default false */
  readonly anyDose?: boolean;
}

/** @throws SteeringError when the composition is refused */
export function loadPersona(parts: PersonaParts, model: ServedModel): LoadedPersona {
  const composition = compose({
    terms: parts.terms,
    hiddenSize: model.hidden,
    layerCount: model.layers,
    capHundredths: parts.capHundredths,
    anyDose: parts.anyDose ?? false,
    policy: parts.policy,
  });
  requireComposed(composition);
  const rowsId = rowsIdOf(parts, composition);
  return {
    name: parts.name,
    revision: parts.revision ?? rowsId,
    revisionName: parts.revisionName ?? `${parts.name}/revisions/${parts.revision ?? rowsId}`,
    rowsId,
    mode: parts.mode,
    positions: parts.positions,
    versionDigests: parts.versionDigests,
    outcome: composition.outcome,
    factor: composition.factor,
    rows: composition.rows,
    doses: composition.layers.map(({ layer, dose, referenceNorm }) => ({ layer, dose, referenceNorm })),
    largestAlphaHundredths: Math.ceil(
      Math.max(...parts.terms.map((term) => Math.abs(term.alphaHundredths))) * composition.factor - 1e-6,
    ),
  };
}

/**
 * The parts of a persona that a file defines.
 *
 * @param readVector - a decoded version and its digest, by file name
 * @throws SteeringError, ServiceError MODEL_MISMATCH
 */
export function partsOf(
  definition: PersonaDefinition,
  context: { readonly tenant: string; readonly capHundredths: number; readonly modelChecksum: string },
  readVector: (file: string) => { readonly version: VectorVersion; readonly digest: string },
): PersonaParts {
  const name = personaName(context.tenant, definition.name);
  const vectors = definition.terms.map(({ vector }) => readVector(vector));
  const terms = definition.terms.map((term, index): Term => {
    const { manifest, directions } = (vectors[index] as (typeof vectors)[number]).version;
    if (manifest.modelChecksum !== context.modelChecksum) {
      throw modelMismatch(`vector "${term.vector}" of ${name}`, manifest.modelChecksum, context.modelChecksum);
    }
    return {
      id: `${term.vector}#${index}`,
      alphaHundredths: toHundredths(term.alpha),
      directions: new Map(
        manifest.layers.map((layer, at) => [
          layer,
          { direction: directions.get(layer) as Float32Array, referenceNorm: manifest.referenceNorms[at] as number },
        ]),
      ),
      ...(term.layers === undefined ? {} : { layers: term.layers }),
    };
  });
  return {
    name,
    mode: definition.mode,
    positions: definition.positions,
    policy: definition.policy,
    terms,
    versionDigests: vectors.map(({ digest }) => digest),
    capHundredths: context.capHundredths,
  };
}

export function personaName(tenant: string, persona: string): string {
  return `tenants/${tenant}/personas/${persona}`;
}

/** A vector was made on another model than the one served: never used, never silently. */
export function modelMismatch(what: string, made: string, served: string): ServiceError {
  return new ServiceError("MODEL_MISMATCH", `${what} was made on model ${made}; this worker serves ${served}`, {
    metadata: { vectorModel: made, servedModel: served },
  });
}

/** Over everything that decides what the rows are and how they act. */
function rowsIdOf(parts: PersonaParts, composed: Composed): string {
  const { name, mode, positions, policy, versionDigests } = parts;
  const hash = createHash("sha256").update(
    canonicalJson({ name, mode, positions, policy, versionDigests: [...versionDigests] }),
  );
  for (const [layer, row] of composed.rows) {
    hash.update(`\n${layer}:`).update(new Uint8Array(row.buffer, row.byteOffset, row.byteLength));
  }
  return hash.digest("hex").slice(0, 32);
}
