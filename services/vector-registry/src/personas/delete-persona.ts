import type { MessageInitShape } from "@bufbuild/protobuf";
import {
  type DeletePersonaRequest,
  DeletePersonaRequestSchema,
  DeletePersonaResponseSchema,
  type UndeletePersonaRequest,
  UndeletePersonaRequestSchema,
  UndeletePersonaResponseSchema,
} from "@persona-mesh/protocol/registry";
import { type CallContext, ServiceError } from "@persona-mesh/service";
import { sql } from "kysely";
import type { Mutation } from "../database/mutation.ts";
import { personaStates } from "../distribution/states.ts";
import { requireEtag } from "../etag.ts";
import type { Registry } from "../registry.ts";
import { REASON, requireFields, textViolations } from "../request-fields.ts";
import { PERSONA_NAME } from "../resource-name.ts";
import { composeRevision } from "./compose-revision.ts";
import { personaMessage } from "./persona-message.ts";
import { requirePersonaQuota } from "./persona-quota.ts";
import { auditedRevision, type PersonaIds, readPersona, tenantOf } from "./persona-rows.ts";
import { type RevisionKey, readRevisionRows } from "./read-revision.ts";
import { releaseReady } from "./release.ts";
import { storeRevisions } from "./store-revisions.ts";
import { specOf } from "./written-spec.ts";

/** Take a persona away from workers; its revisions stay. Deleting a deleted one changes nothing. */
export async function deletePersona(
  { transactor }: Registry,
  request: DeletePersonaRequest,
  context: CallContext,
): Promise<MessageInitShape<typeof DeletePersonaResponseSchema>> {
  const ids = PERSONA_NAME.parse(request.name, "name");
  requireFields(textViolations("reason", request.reason, REASON));
  const scope = {
    context,
    tenant: ids.tenant,
    resource: request.name,
    request,
    requestSchema: DeletePersonaRequestSchema,
    responseSchema: DeletePersonaResponseSchema,
  };
  return transactor.mutate(scope, async (mutation) => {
    const { db } = mutation;
    const before = await readPersona(db, ids);
    requireEtag(request.etag, before, request.name);
    if (tenantOf(mutation).active_persona === ids.persona) {
      throw new ServiceError("PERSONA_ACTIVE", `"${request.name}" is the active persona; activate another one first`, {
        metadata: { resource: request.name },
      });
    }
    if (before.deleted_at === null) {
      await setDeleted(mutation, ids, mutation.now);
      mutation.audit({
        action: "DeletePersona",
        resource: request.name,
        before: { latest: before.latest, released: before.released },
        reason: request.reason,
      });
      for (const change of await personaStates(db, ids)) mutation.emit(change);
    }
    return { persona: await personaMessage(db, await readPersona(db, ids)) };
  });
}

/**
 * Bring a persona back. Aliases that moved meanwhile are followed now, so that it comes back as it would be had it never been
 * away; where it cannot be composed with what they point at, it stays deleted.
 */
export async function undeletePersona(
  { transactor }: Registry,
  request: UndeletePersonaRequest,
  context: CallContext,
): Promise<MessageInitShape<typeof UndeletePersonaResponseSchema>> {
  const ids = PERSONA_NAME.parse(request.name, "name");
  requireFields(textViolations("reason", request.reason, REASON));
  const scope = {
    context,
    tenant: ids.tenant,
    resource: request.name,
    request,
    requestSchema: UndeletePersonaRequestSchema,
    responseSchema: UndeletePersonaResponseSchema,
  };
  return transactor.mutate(scope, async (mutation) => {
    const { db } = mutation;
    const before = await readPersona(db, ids);
    requireEtag(request.etag, before, request.name);
    if (before.deleted_at !== null) {
      await requirePersonaQuota(mutation);
      const number = await catchUp(mutation, { ...ids, number: before.latest });
      await setDeleted(mutation, ids, null, number);
      mutation.audit({
        action: "UndeletePersona",
        resource: request.name,
        after: {
          released: before.released,
          revision: auditedRevision(await readRevisionRows(db, { ...ids, number })),
        },
        reason: request.reason,
      });
      const released = await releaseReady(mutation, { personas: [ids.persona] });
      if (released.length === 0) for (const change of await personaStates(db, ids)) mutation.emit(change);
    }
    return { persona: await personaMessage(db, await readPersona(db, ids)) };
  });
}

/** @returns the number of the newest revision: a new one where aliases that it follows point elsewhere by now */
async function catchUp(mutation: Mutation, latest: RevisionKey): Promise<number> {
  const { db } = mutation;
  const moved = await db
    .selectFrom("persona_terms as t")
    .innerJoin("aliases as a", (join) =>
      join.onRef("a.tenant", "=", "t.tenant").onRef("a.vector", "=", "t.vector").onRef("a.alias", "=", "t.alias"),
    )
    .select("t.term")
    .where("t.tenant", "=", latest.tenant)
    .where("t.persona", "=", latest.persona)
    .where("t.number", "=", latest.number)
    .whereRef("a.digest", "<>", "t.digest")
    .executeTakeFirst();
  if (moved === undefined) return latest.number;
  const spec = specOf(await readRevisionRows(db, latest));
  const composed = await composeRevision(db, tenantOf(mutation), { persona: PERSONA_NAME.format(latest), spec });
  const number = latest.number + 1;
  await storeRevisions(mutation, [{ key: { ...latest, number }, composed, cause: "ALIAS_MOVED" }]);
  return number;
}

async function setDeleted(
  { db, now }: Mutation,
  { tenant, persona }: PersonaIds,
  deletedAt: Date | null,
  latest?: number,
): Promise<void> {
  await db
    .updateTable("personas")
    .set({
      deleted_at: deletedAt,
      updated_at: now,
      etag: sql`etag + 1`,
      ...(latest === undefined ? {} : { latest }),
    })
    .where("tenant", "=", tenant)
    .where("persona", "=", persona)
    .execute();
}
