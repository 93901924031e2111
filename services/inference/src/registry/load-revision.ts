import { CompositionPolicy } from "@persona-mesh/protocol";
import type { PersonaRevision, ResolvedTerm } from "@persona-mesh/protocol/registry";
import { steeringErrors, toServiceError } from "@persona-mesh/service";
import type { Term, VectorVersion } from "@persona-mesh/steering";
import { type LoadedPersona, loadPersona, type ServedModel } from "../personas/loaded-persona.ts";
import { modeFrom, policyFrom, positionsFrom } from "../rpc/steering-words.ts";
import { ProblemError } from "./problem.ts";

/** What a revision is composed for. */
export interface LoadingModel extends ServedModel {
  /** Rows of the steering table that personas can use. */
  readonly tableRows: number;
}

/**
 * Compose a revision, as the registry did when it was written, and hold the result to the registry's.
 *
 * @param versionOf - a decoded version by its digest; throws what is wrong with it
 * @throws ProblemError saying why the revision cannot be served here
 */
export function loadRevision(
  revision: PersonaRevision,
  persona: string,
  model: LoadingModel,
  versionOf: (digest: string) => VectorVersion,
): LoadedPersona {
  requireModel(revision.name, "model checksum", revision.modelChecksum, model.modelChecksum);
  const stored = revision.composition;
  if (stored === undefined) throw new ProblemError("NOT_COMPOSED", `${revision.name} has no stored composition`);
  const loaded = compose(revision, persona, model, stored.capHundredths, versionOf);
  if (loaded.outcome !== stored.outcome || loaded.factor !== stored.factor) {
    throw new ProblemError(
      "COMPOSITION_DIFFERS",
      `${revision.name} composes to ${loaded.outcome} × ${loaded.factor} here, at the registry to ${stored.outcome} × ${stored.factor}`,
    );
  }
  const needed = [...loaded.rows.values()].filter((row) => row.some((value) => value !== 0)).length;
  if (needed > model.tableRows) {
    throw new ProblemError(
      "TABLE_TOO_SMALL",
      `${revision.name} needs ${needed} rows, the whole steering table has ${model.tableRows}`,
    );
  }
  return loaded;
}

function compose(
  revision: PersonaRevision,
  persona: string,
  model: LoadingModel,
  capHundredths: number,
  versionOf: (digest: string) => VectorVersion,
): LoadedPersona {
  try {
    return loadPersona(
      {
        name: persona,
        revision: revision.digest,
        revisionName: revision.name,
        mode: modeFrom(revision.mode),
        positions: positionsFrom(revision.positions),
        policy: policyFrom(
          revision.policy === CompositionPolicy.UNSPECIFIED ? CompositionPolicy.REJECT : revision.policy,
        ),
        terms: revision.terms.map((term) => termOf(term, model, versionOf(term.digest))),
        versionDigests: revision.terms.map(({ digest }) => digest),
        capHundredths,
      },
      model,
    );
  } catch (error) {
    if (error instanceof ProblemError) throw error;
    const { reason, message } = toServiceError(error, [steeringErrors]);
    throw new ProblemError(reason, `${revision.name}: ${message}`);
  }
}

function termOf(term: ResolvedTerm, model: LoadingModel, { manifest, directions }: VectorVersion): Term {
  requireModel(term.version, "model checksum", manifest.modelChecksum, model.modelChecksum);
  if (manifest.site !== "post_block") {
    throw new ProblemError(
      "MODEL_MISMATCH",
      `${term.version} is for the site ${manifest.site}; this worker steers post_block`,
    );
  }
  if (manifest.hiddenSize !== model.hidden) {
    throw new ProblemError(
      "VECTOR_WIDTH_MISMATCH",
      `${term.version} has a width of ${manifest.hiddenSize}; the served model's is ${model.hidden}`,
    );
  }
  if (manifest.layerCount !== model.layers) {
    throw new ProblemError(
      "LAYER_OUT_OF_RANGE",
      `${term.version} is for a model of ${manifest.layerCount} layers; the served one has ${model.layers}`,
    );
  }
  return {
    id: term.version,
    alphaHundredths: term.alphaHundredths,
    directions: new Map(
      manifest.layers.map((layer, at) => [
        layer,
        { direction: directions.get(layer) as Float32Array, referenceNorm: manifest.referenceNorms[at] as number },
      ]),
    ),
    ...(term.layers.length === 0 ? {} : { layers: term.layers }),
  };
}

function requireModel(what: string, field: string, made: string, served: string): void {
  if (made === served) return;
  throw new ProblemError("MODEL_MISMATCH", `${what} has the ${field} ${made}; this worker serves ${served}`);
}
