import { create } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { type PersonaRevision, PersonaRevisionSchema } from "@persona-mesh/protocol/registry";
import { type Kysely, type Selectable, sql } from "kysely";
import type { Database, PersonaRevisionsTable, PersonaTermsTable } from "../database/schema.ts";
import { notFound } from "../failures.ts";
import { ALIAS_NAME, REVISION_NAME, VERSION_NAME } from "../resource-name.ts";
import { causeOf, modeOf, policyOf, positionsOf } from "./persona-words.ts";
import { compositionMessage, readComposition } from "./stored-composition.ts";

/** A revision of a persona. */
export interface RevisionKey {
  readonly tenant: string;
  readonly persona: string;
  readonly number: number;
}

/** A revision with its terms, in their order. */
export interface RevisionRows {
  readonly revision: Selectable<PersonaRevisionsTable>;
  readonly terms: readonly Selectable<PersonaTermsTable>[];
}

/**
 * A revision as callers and workers see it, without its gate: reads nothing that persona_watch may not read.
 *
 * @throws ServiceError RESOURCE_NOT_FOUND
 */
export async function readRevision(db: Kysely<Database>, key: RevisionKey): Promise<PersonaRevision> {
  return revisionMessage(await readRevisionRows(db, key));
}

/** The same for many, by `tenant/persona/number`. Those that are not there are left out. */
export async function readRevisions(
  db: Kysely<Database>,
  keys: readonly RevisionKey[],
): Promise<ReadonlyMap<string, PersonaRevision>> {
  const rows = await readManyRevisionRows(db, keys);
  return new Map([...rows].map(([key, found]) => [key, revisionMessage(found)]));
}

/** @throws ServiceError RESOURCE_NOT_FOUND */
export async function readRevisionRows(db: Kysely<Database>, key: RevisionKey): Promise<RevisionRows> {
  const found = (await readManyRevisionRows(db, [key])).get(keyOf(key));
  if (found === undefined) throw notFound(revisionName(key));
  return found;
}

/** How many revisions one statement asks for: what it holds in memory, and the tree of its plan, stay small. */
const KEYS_AT_ONCE = 500;

/** By `tenant/persona/number`. */
export async function readManyRevisionRows(
  db: Kysely<Database>,
  keys: readonly RevisionKey[],
): Promise<ReadonlyMap<string, RevisionRows>> {
  const found = new Map<string, RevisionRows>();
  for (let from = 0; from < keys.length; from += KEYS_AT_ONCE) {
    const some = keys.slice(from, from + KEYS_AT_ONCE);
    // Arrays, so that one prepared statement serves any number of keys.
    const wanted = sql`(SELECT * FROM unnest(
      ${some.map(({ tenant }) => tenant)}::text[], ${some.map(({ persona }) => persona)}::text[],
      ${some.map(({ number }) => number)}::integer[]) AS k (tenant, persona, number))`;
    const rows = await db
      .selectFrom("persona_revisions as r")
      .selectAll("r")
      // Texts and integers alone: as JSON they are the same.
      .select(
        sql<Selectable<PersonaTermsTable>[]>`(
          SELECT json_agg(t ORDER BY t.term) FROM persona_terms t
          WHERE t.tenant = r.tenant AND t.persona = r.persona AND t.number = r.number)`.as("terms"),
      )
      .where(sql<boolean>`(r.tenant, r.persona, r.number) IN ${wanted}`)
      .execute();
    for (const { terms, ...revision } of rows) found.set(keyOf(revision), { revision, terms: terms ?? [] });
  }
  return found;
}

export function revisionMessage({ revision, terms }: RevisionRows): PersonaRevision {
  return create(PersonaRevisionSchema, {
    name: revisionName(revision),
    number: revision.number,
    digest: revision.digest,
    modelChecksum: revision.model_checksum,
    terms: terms.map((term) => ({
      vector: writtenName(term),
      version: VERSION_NAME.format(term),
      digest: term.digest,
      alphaHundredths: term.alpha,
      layers: term.layers,
    })),
    mode: modeOf(revision.mode),
    positions: positionsOf(revision.positions),
    policy: policyOf(revision.policy),
    composition: compositionMessage(readComposition(revision.composition), revision.cap_hundredths),
    cause: causeOf(revision.cause),
    createdBy: revision.created_by,
    createTime: timestampFromDate(revision.created_at),
  });
}

/** The vector as the term names it: the alias where it follows one. */
export function writtenName(term: Pick<PersonaTermsTable, "tenant" | "vector" | "alias" | "digest">): string {
  return term.alias === null ? VERSION_NAME.format(term) : ALIAS_NAME.format({ ...term, alias: term.alias });
}

export function revisionName({ tenant, persona, number }: RevisionKey): string {
  return REVISION_NAME.format({ tenant, persona, number: String(number) });
}

export function keyOf({ tenant, persona, number }: RevisionKey): string {
  return `${tenant}/${persona}/${number}`;
}
