import type { MessageInitShape } from "@bufbuild/protobuf";
import type { PersonaSpec, PersonaSpecSchema, PersonaTerm } from "@persona-mesh/protocol/registry";
import { type FieldViolation, ServiceError } from "@persona-mesh/service";
import { MAX_LAYER_COUNT, MAX_TERMS } from "@persona-mesh/steering";
import type { Selectable } from "kysely";
import type { PersonaRevisionsTable, PersonaTermsTable } from "../database/schema.ts";
import { notFound } from "../failures.ts";
import { ALIAS_NAME, VERSION_NAME } from "../resource-name.ts";
import { modeFrom, modeOf, policyFrom, policyOf, positionsFrom, positionsOf } from "./persona-words.ts";
import { writtenName } from "./read-revision.ts";

/** A persona as somebody wrote it: nothing is resolved. */
export interface WrittenSpec {
  readonly terms: readonly WrittenTerm[];
  readonly mode: PersonaRevisionsTable["mode"];
  readonly positions: PersonaRevisionsTable["positions"];
  readonly policy: PersonaRevisionsTable["policy"];
}

export interface WrittenTerm {
  /** As it was written, for messages. */
  readonly name: string;
  readonly vector: string;
  /** The alias that the term follows; null where it names a version. */
  readonly alias: string | null;
  /** What the term stands for; null where the alias is to say. */
  readonly digest: string | null;
  /** In hundredths; within int32, and not yet held to any cap. */
  readonly alpha: number;
  /** Undefined for all that the version has. */
  readonly layers: readonly number[] | undefined;
}

/** The columns that say what was written. */
export interface SpecRows {
  readonly revision: Pick<Selectable<PersonaRevisionsTable>, "mode" | "positions" | "policy">;
  readonly terms: readonly Selectable<PersonaTermsTable>[];
}

/**
 * The spec of a request.
 *
 * @param tenant - whose persona it is: terms name its vectors and no others'
 * @throws ServiceError INVALID_ARGUMENT naming every wrong field; RESOURCE_NOT_FOUND for vectors of other tenants
 */
export function readSpec(spec: PersonaSpec | undefined, tenant: string): WrittenSpec {
  const violations: FieldViolation[] = [];
  const given = spec?.terms ?? [];
  if (given.length === 0 || given.length > MAX_TERMS) {
    violations.push({
      field: "persona.spec.terms",
      description: `there must be 1 to ${MAX_TERMS} of them, not ${given.length}`,
    });
  }
  const terms = given.slice(0, MAX_TERMS).map((term, index) => readTerm(term, index, violations));
  const read = {
    mode: modeFrom(spec?.mode ?? 0, "persona.spec.mode", violations),
    positions: positionsFrom(spec?.positions ?? 0, "persona.spec.positions", violations),
    policy: policyFrom(spec?.policy ?? 0, "persona.spec.policy", violations),
  };
  if (violations.length > 0) throw ServiceError.invalid(violations);
  const foreign = terms.find((term) => term?.tenant !== tenant);
  if (foreign !== undefined) throw notFound(foreign.written.name);
  return { ...read, terms: terms.flatMap((term) => (term === undefined ? [] : [term.written])) };
}

function readTerm(
  { vector: name, alphaHundredths: alpha, layers }: PersonaTerm,
  index: number,
  violations: FieldViolation[],
): { readonly tenant: string; readonly written: WrittenTerm } | undefined {
  const field = `persona.spec.terms[${index}]`;
  if (layers.length > MAX_LAYER_COUNT) {
    violations.push({ field: `${field}.layers`, description: `${layers.length} are over ${MAX_LAYER_COUNT}` });
  }
  const version = VERSION_NAME.match(name);
  const alias = ALIAS_NAME.match(name);
  const named = version ?? alias;
  if (named === undefined) {
    const description = `is no name of the form ${VERSION_NAME.pattern} or ${ALIAS_NAME.pattern}`;
    violations.push({ field: `${field}.vector`, description });
    return undefined;
  }
  return {
    tenant: named.tenant,
    written: {
      name,
      vector: named.vector,
      alias: alias?.alias ?? null,
      digest: version?.digest ?? null,
      alpha,
      layers: layers.length === 0 ? undefined : layers,
    },
  };
}

/** What a stored revision was written as. Terms that follow an alias are to be resolved anew. */
export function specOf({ revision, terms }: SpecRows): WrittenSpec {
  return {
    mode: revision.mode,
    positions: revision.positions,
    policy: revision.policy,
    terms: terms.map((term) => ({
      name: writtenName(term),
      vector: term.vector,
      alias: term.alias,
      digest: term.alias === null ? term.digest : null,
      alpha: term.alpha,
      layers: term.layers_written ? term.layers : undefined,
    })),
  };
}

export function specMessage(rows: SpecRows): MessageInitShape<typeof PersonaSpecSchema> {
  const { mode, positions, policy, terms } = specOf(rows);
  return {
    mode: modeOf(mode),
    positions: positionsOf(positions),
    policy: policyOf(policy),
    terms: terms.map(({ name, alpha, layers }) => ({
      vector: name,
      alphaHundredths: alpha,
      layers: [...(layers ?? [])],
    })),
  };
}
