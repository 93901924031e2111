import type { MessageInitShape } from "@bufbuild/protobuf";
import {
  type UpdatePersonaRequest,
  UpdatePersonaRequestSchema,
  UpdatePersonaResponseSchema,
} from "@persona-mesh/protocol/registry";
import { type CallContext, ServiceError } from "@persona-mesh/service";
import { canonicalJson, type JsonValue } from "@persona-mesh/steering";
import { sql } from "kysely";
import type { Mutation } from "../database/mutation.ts";
import { requireEtag } from "../etag.ts";
import type { Registry } from "../registry.ts";
import { DESCRIPTION, DISPLAY_NAME, REASON, requireFields, textViolations, updatedPaths } from "../request-fields.ts";
import { PERSONA_NAME } from "../resource-name.ts";
import { composeRevision } from "./compose-revision.ts";
import { gatedRevision, personaMessage } from "./persona-message.ts";
import { auditedRevision, readLivePersona, readPersona, tenantOf } from "./persona-rows.ts";
import { type RevisionKey, type RevisionRows, readRevisionRows } from "./read-revision.ts";
import { releaseReady } from "./release.ts";
import { storeRevisions } from "./store-revisions.ts";
import { readSpec, specOf, type WrittenSpec } from "./written-spec.ts";

const CHANGEABLE = ["display_name", "description", "spec"];

/** Change a persona. Another spec, or the same one where its aliases or its cap mean something else now, makes a revision. */
export async function updatePersona(
  { transactor }: Registry,
  request: UpdatePersonaRequest,
  context: CallContext,
): Promise<MessageInitShape<typeof UpdatePersonaResponseSchema>> {
  const { persona: given } = request;
  if (given === undefined) throw ServiceError.invalid([{ field: "persona", description: "is needed" }]);
  const ids = PERSONA_NAME.parse(given.name, "persona.name");
  const paths = updatedPaths(request.updateMask, CHANGEABLE, [
    ...(given.displayName === "" ? [] : ["display_name"]),
    ...(given.description === "" ? [] : ["description"]),
    ...(given.spec === undefined ? [] : ["spec"]),
  ]);
  requireFields(
    textViolations("persona.display_name", given.displayName, DISPLAY_NAME),
    textViolations("persona.description", given.description, DESCRIPTION),
    textViolations("reason", request.reason, REASON),
  );
  const scope = {
    context,
    tenant: ids.tenant,
    resource: given.name,
    request,
    requestSchema: UpdatePersonaRequestSchema,
    responseSchema: UpdatePersonaResponseSchema,
  };
  return transactor.mutate(scope, async (mutation) => {
    const { db } = mutation;
    const before = await readLivePersona(db, ids);
    requireEtag(given.etag, before, given.name);
    const latest = await readRevisionRows(db, { ...ids, number: before.latest });
    const revision = paths.has("spec") ? await revise(mutation, latest, readSpec(given.spec, ids.tenant)) : latest;
    const texts = {
      display_name: paths.has("display_name") ? given.displayName : before.display_name,
      description: paths.has("description") ? given.description : before.description,
    };
    const number = revision.revision.number;
    const isChanged =
      number !== before.latest ||
      texts.display_name !== before.display_name ||
      texts.description !== before.description;
    if (isChanged) {
      await db
        .updateTable("personas")
        .set({ ...texts, latest: number, etag: sql`etag + 1`, updated_at: mutation.now })
        .where("tenant", "=", ids.tenant)
        .where("persona", "=", ids.persona)
        .execute();
      mutation.audit({
        action: "UpdatePersona",
        resource: given.name,
        before: audited(before, latest),
        after: audited(texts, revision),
        reason: request.reason,
      });
      await releaseReady(mutation, { personas: [ids.persona] });
    }
    return {
      persona: await personaMessage(db, await readPersona(db, ids)),
      revision: await gatedRevision(db, { ...ids, number }),
    };
  });
}

/** The revision that a spec asks for: a new one, or the latest where that is what was written and does the same. */
async function revise(mutation: Mutation, latest: RevisionRows, spec: WrittenSpec): Promise<RevisionRows> {
  const { tenant, persona, number, digest } = latest.revision;
  const name = PERSONA_NAME.format({ tenant, persona });
  const composed = await composeRevision(mutation.db, tenantOf(mutation), { persona: name, spec });
  if (composed.digest === digest && isSame(spec, specOf(latest))) return latest;
  const key: RevisionKey = { tenant, persona, number: number + 1 };
  await storeRevisions(mutation, [{ key, composed, cause: "WRITTEN" }]);
  return readRevisionRows(mutation.db, key);
}

function isSame(spec: WrittenSpec, other: WrittenSpec): boolean {
  const written = ({ terms }: WrittenSpec) =>
    canonicalJson(
      terms.map(({ name, layers }) => [name, layers === undefined ? null : [...layers].sort((a, b) => a - b)]),
    );
  return written(spec) === written(other);
}

function audited(
  { display_name: displayName, description }: { readonly display_name: string; readonly description: string },
  rows: RevisionRows,
): JsonValue {
  return { displayName, description, revision: auditedRevision(rows) };
}
