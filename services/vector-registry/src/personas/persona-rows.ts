import type { JsonValue } from "@persona-mesh/steering";
import type { Selectable } from "kysely";
import type { Mutation } from "../database/mutation.ts";
import type { PersonasTable, TenantsTable } from "../database/schema.ts";
import type { Tx } from "../database/tx.ts";
import { deleted, notFound } from "../failures.ts";
import { type Ids, PERSONA_NAME } from "../resource-name.ts";
import type { RevisionRows } from "./read-revision.ts";
import { writtenName } from "./read-revision.ts";

export type PersonaIds = Ids<typeof PERSONA_NAME.pattern>;

/** @throws ServiceError RESOURCE_NOT_FOUND */
export async function readPersona(db: Tx, ids: PersonaIds): Promise<Selectable<PersonasTable>> {
  const row = await db
    .selectFrom("personas")
    .selectAll()
    .where("tenant", "=", ids.tenant)
    .where("persona", "=", ids.persona)
    .executeTakeFirst();
  if (row === undefined) throw notFound(PERSONA_NAME.format(ids));
  return row;
}

/** @throws ServiceError RESOURCE_NOT_FOUND, RESOURCE_DELETED */
export async function readLivePersona(db: Tx, ids: PersonaIds): Promise<Selectable<PersonasTable>> {
  const row = await readPersona(db, ids);
  if (row.deleted_at !== null) throw deleted(PERSONA_NAME.format(ids));
  return row;
}

/** The locked row of the tenant whose personas change. */
export function tenantOf({ tenantRow }: Mutation): Selectable<TenantsTable> {
  if (tenantRow === undefined) throw new Error("the platform has no personas");
  return tenantRow;
}

/** A revision in the audit: what decides what it does. */
export function auditedRevision({ revision, terms }: RevisionRows): JsonValue {
  return {
    number: revision.number,
    digest: revision.digest,
    mode: revision.mode,
    positions: revision.positions,
    policy: revision.policy,
    capHundredths: revision.cap_hundredths,
    terms: terms.map((term) => ({
      vector: writtenName(term),
      digest: term.digest,
      alphaHundredths: term.alpha,
      layers: term.layers,
    })),
  };
}
