import type { MessageInitShape } from "@bufbuild/protobuf";
import {
  type ActivatePersonaRequest,
  ActivatePersonaRequestSchema,
  ActivatePersonaResponseSchema,
  type DeactivatePersonaRequest,
  DeactivatePersonaRequestSchema,
  DeactivatePersonaResponseSchema,
} from "@persona-mesh/protocol/registry";
import { type CallContext, ServiceError } from "@persona-mesh/service";
import type { Selectable } from "kysely";
import { breakGlass } from "../approvals/break-glass.ts";
import type { Mutation } from "../database/mutation.ts";
import type { TenantsTable } from "../database/schema.ts";
import { requireEtag } from "../etag.ts";
import type { Registry } from "../registry.ts";
import { REASON, requireFields, textViolations } from "../request-fields.ts";
import { PERSONA_NAME, TENANT_NAME } from "../resource-name.ts";
import { tenantMessage } from "../tenants/tenant-message.ts";
import { moveActive } from "./move-active.ts";
import { gateRefusal, lacksOnlyApproval, personaGate } from "./persona-gate.ts";
import { readLivePersona, tenantOf } from "./persona-rows.ts";
import { type RevisionKey, readRevisionRows, revisionName } from "./read-revision.ts";

/** The largest number that a revision can have. */
const MAX_NUMBER = 999_999_999;

/**
 * The persona switch. Any revision may be activated whose gate is empty now, an earlier one too; with break-glass, one that
 * only lacks approvals. Activating what is active changes nothing, and asks nothing of its gate.
 */
export async function activatePersona(
  { transactor }: Registry,
  request: ActivatePersonaRequest,
  context: CallContext,
): Promise<MessageInitShape<typeof ActivatePersonaResponseSchema>> {
  const ids = PERSONA_NAME.parse(request.name, "name");
  requireFields(textViolations("reason", request.reason, REASON));
  if (request.revision > MAX_NUMBER) {
    throw ServiceError.invalid([{ field: "revision", description: `${request.revision} is no revision's number` }]);
  }
  const scope = {
    context,
    tenant: ids.tenant,
    resource: request.name,
    request,
    requestSchema: ActivatePersonaRequestSchema,
    responseSchema: ActivatePersonaResponseSchema,
  };
  return transactor.mutate(scope, async (mutation) => {
    const { db } = mutation;
    const before = tenantOf(mutation);
    requireEtag(request.tenantEtag, before, TENANT_NAME.format(ids));
    const persona = await readLivePersona(db, ids);
    const key: RevisionKey = { ...ids, number: request.revision || persona.latest };
    const to = await readRevisionRows(db, key);
    if (before.active_persona === key.persona && before.active_number === key.number)
      return unchanged(mutation, before, { action: "ActivatePersonaAgain", resource: request.name });

    const glass = await passGate(mutation, key, request);
    const row = await moveActive(mutation, { to, reason: request.reason, glass });
    mutation.audit({
      action: "ActivatePersona",
      resource: request.name,
      before: { active: activeName(before) },
      after: { active: activeName(row), ...(glass === undefined ? {} : { breakGlass: glass }) },
      reason: request.reason,
    });
    return { tenant: await tenantMessage(db, row), revision: await mutation.takeRevision() };
  });
}

/** Calls that name no persona are unsteered from now on. */
export async function deactivatePersona(
  { transactor }: Registry,
  request: DeactivatePersonaRequest,
  context: CallContext,
): Promise<MessageInitShape<typeof DeactivatePersonaResponseSchema>> {
  const { tenant } = TENANT_NAME.parse(request.parent, "parent");
  requireFields(textViolations("reason", request.reason, REASON));
  const scope = {
    context,
    tenant,
    resource: request.parent,
    request,
    requestSchema: DeactivatePersonaRequestSchema,
    responseSchema: DeactivatePersonaResponseSchema,
  };
  return transactor.mutate(scope, async (mutation) => {
    const before = tenantOf(mutation);
    requireEtag(request.tenantEtag, before, request.parent);
    if (before.active_persona === null) {
      return unchanged(mutation, before, { action: "DeactivatePersonaAgain", resource: request.parent });
    }
    const row = await moveActive(mutation, { to: undefined, reason: request.reason });
    mutation.audit({
      action: "DeactivatePersona",
      resource: request.parent,
      before: { active: activeName(before) },
      after: { active: null },
      reason: request.reason,
    });
    return { tenant: await tenantMessage(mutation.db, row), revision: await mutation.takeRevision() };
  });
}

/** @returns the use of break-glass that was needed; undefined where the gate is open */
async function passGate(
  mutation: Mutation,
  key: RevisionKey,
  { name, breakGlass: asked }: ActivatePersonaRequest,
): Promise<string | undefined> {
  const findings = await personaGate(mutation.db, key);
  if (findings.length === 0) return undefined;
  if (asked === undefined || !lacksOnlyApproval(findings)) throw gateRefusal(key, findings);
  return breakGlass(mutation, { action: "ActivatePersona", resource: name, justification: asked.justification });
}

/**
 * It was so already: workers have it, or are told under a revision that is past. That somebody asked is written down all the
 * same.
 */
async function unchanged(
  mutation: Mutation,
  row: Selectable<TenantsTable>,
  asked: { readonly action: string; readonly resource: string },
) {
  const { db } = mutation;
  mutation.audit({ ...asked, after: { unchanged: true } });
  const { revision } = await db.selectFrom("revision_counter").select("revision").executeTakeFirstOrThrow();
  return { tenant: await tenantMessage(db, row), revision };
}

function activeName({
  tenant,
  active_persona: persona,
  active_number: number,
}: Selectable<TenantsTable>): string | null {
  return persona === null || number === null ? null : revisionName({ tenant, persona, number });
}
