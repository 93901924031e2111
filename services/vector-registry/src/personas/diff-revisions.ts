import type { MessageInitShape } from "@bufbuild/protobuf";
import type { DiffPersonaRevisionsRequest, DiffPersonaRevisionsResponseSchema } from "@persona-mesh/protocol/registry";
import { type CallContext, ServiceError } from "@persona-mesh/service";
import { canonicalJson, type JsonValue } from "@persona-mesh/steering";
import type { Registry } from "../registry.ts";
import { REVISION_NAME } from "../resource-name.ts";
import { type RevisionRows, readRevisionRows, writtenName } from "./read-revision.ts";
import { readComposition } from "./stored-composition.ts";

/** What differs between two revisions of one tenant, also of two personas. */
export async function diffPersonaRevisions(
  { transactor }: Registry,
  { name, otherName }: DiffPersonaRevisionsRequest,
  context: CallContext,
): Promise<MessageInitShape<typeof DiffPersonaRevisionsResponseSchema>> {
  const { number, ...ids } = REVISION_NAME.parse(name, "name");
  const { number: otherNumber, ...otherIds } = REVISION_NAME.parse(otherName, "other_name");
  if (ids.tenant !== otherIds.tenant) {
    throw ServiceError.invalid([{ field: "other_name", description: "must be of the same tenant as name" }]);
  }
  return transactor.read(context, ids.tenant, name, async (db) => {
    const one = await readRevisionRows(db, { ...ids, number: Number(number) });
    const other = await readRevisionRows(db, { ...otherIds, number: Number(otherNumber) });
    return { name, otherName, fields: fieldsThatDiffer(one, other), layers: doses(one, other) };
  });
}

function fieldsThatDiffer(one: RevisionRows, other: RevisionRows) {
  const [these, those] = [fieldsOf(one), fieldsOf(other)];
  return [...new Set([...these.keys(), ...those.keys()])].flatMap((field) => {
    const [valueJson, otherValueJson] = [these, those].map((fields) => canonicalJson(fields.get(field) ?? null));
    return valueJson === otherValueJson
      ? []
      : [{ field, valueJson: valueJson ?? "", otherValueJson: otherValueJson ?? "" }];
  });
}

/** Terms by their position, `null` where there is none; then what holds for the whole. */
function fieldsOf({ revision, terms }: RevisionRows): Map<string, JsonValue> {
  return new Map<string, JsonValue>([
    ...terms.map((term): [string, JsonValue] => [
      `terms[${term.term}]`,
      { vector: writtenName(term), version: term.digest, alphaHundredths: term.alpha, layers: term.layers },
    ]),
    ["mode", revision.mode],
    ["positions", revision.positions],
    ["policy", revision.policy],
    ["outcome", readComposition(revision.composition).outcome],
  ]);
}

/** Every layer that either of them steers, ascending. */
function doses(one: RevisionRows, other: RevisionRows) {
  const [these, those] = [one, other].map(
    ({ revision }) =>
      new Map(readComposition(revision.composition).layers.map(({ layer, dose }) => [layer, dose ?? 0])),
  ) as [Map<number, number>, Map<number, number>];
  return [...new Set([...these.keys(), ...those.keys()])]
    .sort((a, b) => a - b)
    .map((layer) => {
      const [dose, otherDose] = [these.get(layer), those.get(layer)];
      return {
        layer,
        ...(dose === undefined ? {} : { dose }),
        ...(otherDose === undefined ? {} : { otherDose }),
      };
    });
}
