import type { MessageInitShape } from "@bufbuild/protobuf";
import {
  type CreatePersonaRequest,
  CreatePersonaRequestSchema,
  CreatePersonaResponseSchema,
} from "@persona-mesh/protocol/registry";
import type { CallContext } from "@persona-mesh/service";
import { alreadyExists } from "../failures.ts";
import type { Registry } from "../registry.ts";
import { DESCRIPTION, DISPLAY_NAME, REASON, requireFields, textViolations } from "../request-fields.ts";
import { PERSONA_NAME, requireId, TENANT_NAME } from "../resource-name.ts";
import { composeRevision } from "./compose-revision.ts";
import { gatedRevision, personaMessage } from "./persona-message.ts";
import { requirePersonaQuota } from "./persona-quota.ts";
import { auditedRevision, readPersona, tenantOf } from "./persona-rows.ts";
import { readRevisionRows } from "./read-revision.ts";
import { releaseReady } from "./release.ts";
import { storeRevisions } from "./store-revisions.ts";
import { readSpec } from "./written-spec.ts";

/** Resolve, compose and store a new persona. With `validate_only` it is composed and shown, and nothing stays. */
export async function createPersona(
  { transactor }: Registry,
  request: CreatePersonaRequest,
  context: CallContext,
): Promise<MessageInitShape<typeof CreatePersonaResponseSchema>> {
  const { tenant } = TENANT_NAME.parse(request.parent, "parent");
  const persona = requireId(request.personaId, "persona_id");
  const { displayName = "", description = "", spec } = request.persona ?? {};
  requireFields(
    textViolations("persona.display_name", displayName, DISPLAY_NAME),
    textViolations("persona.description", description, DESCRIPTION),
    textViolations("reason", request.reason, REASON),
  );
  const name = PERSONA_NAME.format({ tenant, persona });
  const scope = {
    context,
    tenant,
    resource: name,
    request,
    requestSchema: CreatePersonaRequestSchema,
    responseSchema: CreatePersonaResponseSchema,
  };
  return transactor.mutate(scope, async (mutation) => {
    const { db } = mutation;
    const written = readSpec(spec, tenant);
    const taken = await db
      .selectFrom("personas")
      .select("persona")
      .where("tenant", "=", tenant)
      .where("persona", "=", persona)
      .executeTakeFirst();
    if (taken !== undefined) throw alreadyExists(name);
    await requirePersonaQuota(mutation);
    const composed = await composeRevision(db, tenantOf(mutation), { persona: name, spec: written });
    const key = { tenant, persona, number: 1 };
    await storeRevisions(mutation, [{ key, composed, cause: "WRITTEN" }]);
    await db
      .insertInto("personas")
      .values({ tenant, persona, display_name: displayName, description, latest: 1, released: null, deleted_at: null })
      .execute();
    mutation.audit({
      action: "CreatePersona",
      resource: name,
      after: { displayName, description, revision: auditedRevision(await readRevisionRows(db, key)) },
      reason: request.reason,
    });
    await releaseReady(mutation, { personas: [persona] });
    return {
      persona: await personaMessage(db, await readPersona(db, key)),
      revision: await gatedRevision(db, key),
    };
  });
}
