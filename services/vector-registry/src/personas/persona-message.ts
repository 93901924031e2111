import type { MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { type PersonaRevision, type PersonaSchema, ResourceState } from "@persona-mesh/protocol/registry";
import { type Selectable, sql } from "kysely";
import type { PersonasTable, PersonaTermsTable, TenantsTable } from "../database/schema.ts";
import type { Tx } from "../database/tx.ts";
import { etagOf } from "../etag.ts";
import { notFound } from "../failures.ts";
import { PERSONA_NAME } from "../resource-name.ts";
import { gateMessages, personaGates } from "./persona-gate.ts";
import { keyOf, type RevisionKey, readRevisions, revisionName } from "./read-revision.ts";
import { type SpecRows, specMessage } from "./written-spec.ts";

type PersonaRow = Selectable<PersonasTable>;
type PersonaInit = MessageInitShape<typeof PersonaSchema>;
type Active = Pick<Selectable<TenantsTable>, "active_persona" | "active_number">;

/** A persona as callers see it. */
export async function personaMessage(db: Tx, row: PersonaRow): Promise<PersonaInit> {
  const [message] = await personaMessages(db, row.tenant, [row]);
  return message as PersonaInit;
}

/** Personas of one tenant, in their order. */
export async function personaMessages(db: Tx, tenant: string, rows: readonly PersonaRow[]): Promise<PersonaInit[]> {
  if (rows.length === 0) return [];
  const active = await db
    .selectFrom("tenants")
    .select(["active_persona", "active_number"])
    .where("tenant", "=", tenant)
    .executeTakeFirstOrThrow();
  const specs = await latestSpecs(db, rows);
  return rows.map((row) => messageOf(row, specs.get(row.persona) as SpecRows, active));
}

/** A revision with what stands in its way now. @throws ServiceError RESOURCE_NOT_FOUND */
export async function gatedRevision(db: Tx, key: RevisionKey): Promise<PersonaRevision> {
  const [revision] = await gatedRevisions(db, key, [key.number]);
  if (revision === undefined) throw notFound(revisionName(key));
  return revision;
}

/** Revisions of one persona in the order of their numbers as given; those that are not there are left out. */
export async function gatedRevisions(
  db: Tx,
  { tenant, persona }: Pick<RevisionKey, "tenant" | "persona">,
  numbers: readonly number[],
): Promise<PersonaRevision[]> {
  const keys = numbers.map((number) => ({ tenant, persona, number }));
  const revisions = await readRevisions(db, keys);
  const gates = await personaGates(db, { tenant, persona }, numbers);
  return keys.flatMap((key) => {
    const revision = revisions.get(keyOf(key));
    if (revision === undefined) return [];
    revision.gate = gateMessages(gates.get(key.number) ?? []);
    return [revision];
  });
}

async function latestSpecs(db: Tx, rows: readonly PersonaRow[]): Promise<ReadonlyMap<string, SpecRows>> {
  const tenant = rows[0]?.tenant ?? "";
  const latest = sql<boolean>`(persona, number) IN (SELECT * FROM unnest(
    ${rows.map(({ persona }) => persona)}::text[], ${rows.map((row) => row.latest)}::integer[]))`;
  const revisions = await db
    .selectFrom("persona_revisions")
    .select(["persona", "mode", "positions", "policy"])
    .where("tenant", "=", tenant)
    .where(latest)
    .execute();
  const terms = await db
    .selectFrom("persona_terms")
    .selectAll()
    .where("tenant", "=", tenant)
    .where(latest)
    .orderBy("term")
    .execute();
  const byPersona = Map.groupBy(terms, ({ persona }): string => persona) as Map<
    string,
    Selectable<PersonaTermsTable>[]
  >;
  return new Map(
    revisions.map((revision) => [revision.persona, { revision, terms: byPersona.get(revision.persona) ?? [] }]),
  );
}

function messageOf(row: PersonaRow, spec: SpecRows, active: Active): PersonaInit {
  const { tenant, persona, latest, released, deleted_at: deletedAt } = row;
  const isActive = active.active_persona === persona && active.active_number !== null;
  return {
    name: PERSONA_NAME.format({ tenant, persona }),
    displayName: row.display_name,
    description: row.description,
    spec: specMessage(spec),
    latestRevision: revisionName({ tenant, persona, number: latest }),
    releasedRevision: released === null ? "" : revisionName({ tenant, persona, number: released }),
    activeRevision: isActive ? revisionName({ tenant, persona, number: active.active_number as number }) : "",
    state: deletedAt === null ? ResourceState.ACTIVE : ResourceState.DELETED,
    createTime: timestampFromDate(row.created_at),
    updateTime: timestampFromDate(row.updated_at),
    ...(deletedAt === null ? {} : { deleteTime: timestampFromDate(deletedAt) }),
    etag: etagOf(row),
  };
}
