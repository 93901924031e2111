import { setImmediate as nextTurn } from "node:timers/promises";
import { ServiceError, steeringErrors, toServiceError } from "@persona-mesh/service";
import { type Selectable, sql } from "kysely";
import type { Mutation } from "../database/mutation.ts";
import type { PersonasTable } from "../database/schema.ts";
import { ALIAS_NAME, PERSONA_NAME } from "../resource-name.ts";
import { type ComposedRevision, composeRevision } from "./compose-revision.ts";
import type { MovedAlias } from "./moved-alias.ts";
import { tenantOf } from "./persona-rows.ts";
import { keyOf, type RevisionKey, type RevisionRows, readManyRevisionRows, revisionName } from "./read-revision.ts";
import { releaseReady } from "./release.ts";
import { type NewRevision, storeRevisions } from "./store-revisions.ts";
import { takeActiveAlong } from "./take-active-along.ts";
import { specOf, type WrittenSpec } from "./written-spec.ts";

/**
 * Take personas along with an alias. Called in the transaction that moves it, when the alias and its history are written and
 * before the revision is taken.
 *
 * The rule:
 *
 * - The latest revision of every persona that uses the alias gets a successor with the cause ALIAS_MOVED, in which the alias
 *   stands for its new version and nothing else is different. So does what is in force of a persona beside it, its released
 *   and its active revision, where it is in step: where it stands for what the alias pointed at until now. A revision that
 *   somebody activated to get away from that version stays what it is. The latest is numbered last: it stays the latest.
 * - One that cannot be composed refuses the whole move, and says which and why. Other terms that were revoked meanwhile do not:
 *   the gate keeps those out, and an emergency must not wait for personas that nobody is served.
 * - `released` goes on to the newest successor whose gate is empty, and else stays.
 * - The active persona goes on to its successor where the successor's gate is empty, or where approval alone is missing and the
 *   glass is broken: in this transaction already, or now by the caller's leave. Otherwise a move of `production` is refused, for a rollback that leaves the old
 *   version serving would be a lie; only where the active revision has a revoked version, and so is not served, is there
 *   nothing to leave behind. A move of any other alias goes through without the active persona, and the audit says so: what is
 *   tried out changes nothing in production that people have not approved.
 *
 * Nothing gets active or released past its gate by this: the database judges both again.
 *
 * @returns names of the new revisions
 * @throws ServiceError with the reason of what cannot be composed, or of the closed gate
 */
export async function followAlias(mutation: Mutation, moved: MovedAlias): Promise<string[]> {
  const { active_persona: activePersona, active_number: activeNumber } = tenantOf(mutation);
  const before = await digestBefore(mutation, moved);
  const personas = await personasThatUse(mutation, moved);
  const created: string[] = [];
  let fromActive: RevisionKey | undefined;
  for (let from = 0; from < personas.length; from += PERSONAS_AT_ONCE) {
    const some = personas.slice(from, from + PERSONAS_AT_ONCE).map((row) => ({
      row,
      active: row.persona === activePersona ? activeNumber : null,
    }));
    for (const { persona, successors } of await succeed(mutation, some, { moved, before })) {
      created.push(...[...successors.values()].map(revisionName));
      if (persona === activePersona) fromActive = successors.get(activeNumber ?? 0);
    }
  }
  if (fromActive !== undefined) await takeActiveAlong(mutation, fromActive, moved);
  if (created.length > 0) await releaseReady(mutation, { personas: personas.map(({ persona }) => persona) });
  return created;
}

/** What the alias pointed at until now; undefined where it is new or goes nowhere. */
async function digestBefore(
  { db, tenantRow }: Mutation,
  { vector, alias, digest }: MovedAlias,
): Promise<string | undefined> {
  const targets = await db
    .selectFrom("alias_targets")
    .select("digest")
    .where("tenant", "=", tenantRow?.tenant ?? "")
    .where("vector", "=", vector)
    .where("alias", "=", alias)
    .orderBy("number", "desc")
    .limit(2)
    .execute();
  return targets.find((target) => target.digest !== digest)?.digest;
}

/** Personas whose latest revision uses the alias, or of which something in force does. */
async function personasThatUse(
  mutation: Mutation,
  { vector, alias }: MovedAlias,
): Promise<Selectable<PersonasTable>[]> {
  const { tenant, active_persona: persona, active_number: number } = tenantOf(mutation);
  const { rows } = await sql<Selectable<PersonasTable>>`
    SELECT p.* FROM personas p
    WHERE p.tenant = ${tenant} AND p.deleted_at IS NULL AND EXISTS (
      SELECT FROM persona_terms t
      WHERE t.tenant = p.tenant AND t.persona = p.persona AND t.vector = ${vector} AND t.alias = ${alias}
        AND (t.number IN (p.latest, p.released) OR (t.persona = ${persona} AND t.number = ${number}::integer)))
    ORDER BY p.persona`.execute(mutation.db);
  return rows;
}

/** So many personas are read and written by one statement: what is in memory at once stays small. */
const PERSONAS_AT_ONCE = 100;

interface Follower {
  readonly row: Selectable<PersonasTable>;
  /** Number of the active revision, where it is this persona's. */
  readonly active: number | null;
}

interface Succession {
  readonly persona: string;
  /** By the number of what they succeed; the newest last. */
  readonly successors: ReadonlyMap<number, RevisionKey>;
}

/** Give revisions of personas their successors. */
async function succeed(
  mutation: Mutation,
  followers: readonly Follower[],
  { moved, before }: { readonly moved: MovedAlias; readonly before: string | undefined },
): Promise<Succession[]> {
  const rows = await readManyRevisionRows(
    mutation.db,
    followers.flatMap(({ row, active }) => numbersAtIssue(row, active).map((number) => ({ ...row, number }))),
  );
  const revisions: NewRevision[] = [];
  const successions: Succession[] = [];
  for (const { row, active } of followers) {
    const { tenant, persona, latest } = row;
    const successors = new Map<number, RevisionKey>();
    const find = (number: number) => rows.get(keyOf({ tenant, persona, number })) as RevisionRows;
    for (const number of followingNumbers(numbersAtIssue(row, active), find, { latest, moved, before })) {
      const key = { tenant, persona, number: latest + successors.size + 1 };
      const composed = await composeSuccessor(mutation, PERSONA_NAME.format(key), specWith(find(number), moved));
      revisions.push({ key, composed, cause: "ALIAS_MOVED" });
      successors.set(number, key);
    }
    if (successors.size > 0) successions.push({ persona, successors });
    // A tenant may have thousands of personas: other calls of this replica get their turn between them.
    await nextTurn();
  }
  await storeRevisions(mutation, revisions);
  await writeLatest(mutation, successions, { moved, before });
  return successions;
}

/** The latest revision and what is in force beside it, ascending. */
function numbersAtIssue({ latest, released }: Selectable<PersonasTable>, active: number | null): number[] {
  const numbers = [released, active, latest].filter((number) => number !== null);
  return [...new Set(numbers)].sort((a, b) => a - b);
}

/** Those that get a successor. The latest goes along with any of them, or something older would be the newest. */
function followingNumbers(
  numbers: readonly number[],
  find: (number: number) => RevisionRows,
  {
    latest,
    moved,
    before,
  }: { readonly latest: number; readonly moved: MovedAlias; readonly before: string | undefined },
): number[] {
  const following = numbers.filter((number) => {
    const uses = digestsOf(find(number), moved);
    return number === latest
      ? uses.some((digest) => digest !== moved.digest)
      : uses.length > 0 && uses.every((digest) => digest === before);
  });
  return following.length === 0 ? [] : [...new Set([...following, latest])];
}

async function writeLatest(
  mutation: Mutation,
  successions: readonly Succession[],
  { moved, before }: { readonly moved: MovedAlias; readonly before: string | undefined },
): Promise<void> {
  if (successions.length === 0) return;
  const { tenant } = tenantOf(mutation);
  const newest = successions.map(({ successors }) => Math.max(...[...successors.values()].map(({ number }) => number)));
  await sql`
    UPDATE personas p SET latest = s.number, etag = p.etag + 1, updated_at = ${mutation.now}
    FROM unnest(${successions.map(({ persona }) => persona)}::text[], ${newest}::integer[]) AS s (persona, number)
    WHERE p.tenant = ${tenant} AND p.persona = s.persona`.execute(mutation.db);
  for (const { persona, successors } of successions) {
    mutation.audit({
      action: "FollowAlias",
      resource: PERSONA_NAME.format({ tenant, persona }),
      before: before === undefined ? {} : { version: before },
      after: { version: moved.digest, successors: numbersOf(successors) },
      reason: `${ALIAS_NAME.format({ tenant, ...moved })} was moved`,
    });
  }
}

function digestsOf({ terms }: RevisionRows, { vector, alias }: MovedAlias): string[] {
  return terms.filter((term) => term.vector === vector && term.alias === alias).map(({ digest }) => digest);
}

/** What a revision stands for, with the alias standing for its new version. */
function specWith(rows: RevisionRows, { vector, alias, digest }: MovedAlias): WrittenSpec {
  const spec = specOf(rows);
  const terms = spec.terms.map((term, index) => {
    const stoodFor = rows.terms[index]?.digest ?? null;
    return { ...term, digest: term.vector === vector && term.alias === alias ? digest : stoodFor };
  });
  return { ...spec, terms };
}

function numbersOf(successors: ReadonlyMap<number, RevisionKey>): Record<string, number> {
  return Object.fromEntries([...successors].map(([number, successor]) => [number, successor.number]));
}

async function composeSuccessor(mutation: Mutation, persona: string, spec: WrittenSpec): Promise<ComposedRevision> {
  try {
    return await composeRevision(mutation.db, tenantOf(mutation), { persona, spec, inForce: true });
  } catch (error) {
    const { reason, message, metadata } = toServiceError(error, [steeringErrors]);
    // A defect, or the database: no judgement of the persona.
    if (reason === "INTERNAL") throw error;
    throw new ServiceError(reason, `the alias cannot move, for "${persona}" follows it: ${message}`, {
      metadata: { ...metadata, persona },
      cause: error,
    });
  }
}
