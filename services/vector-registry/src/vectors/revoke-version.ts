import type { MessageInitShape } from "@bufbuild/protobuf";
import {
  type RevokeVersionRequest,
  RevokeVersionRequestSchema,
  RevokeVersionResponseSchema,
} from "@persona-mesh/protocol/registry";
import type { CallContext } from "@persona-mesh/service";
import { referenced } from "../failures.ts";
import type { Registry } from "../registry.ts";
import { REQUIRED_REASON, requireFields, textViolations } from "../request-fields.ts";
import { VERSION_NAME } from "../resource-name.ts";
import { referrersOfDigest } from "./referrers.ts";
import { resolveVersion } from "./resolve-version.ts";
import { versionMessage } from "./version-message.ts";

/**
 * The kill switch: workers are told, and no worker that has heard of it serves the bytes again, under whichever vector of the
 * tenant they stand. Revoking again gives the same answer.
 */
export async function revokeVersion(
  { transactor }: Registry,
  request: RevokeVersionRequest,
  context: CallContext,
): Promise<MessageInitShape<typeof RevokeVersionResponseSchema>> {
  const { tenant, digest } = VERSION_NAME.parse(request.name, "name");
  requireFields(textViolations("reason", request.reason, REQUIRED_REASON));
  const schemas = { requestSchema: RevokeVersionRequestSchema, responseSchema: RevokeVersionResponseSchema };
  const scope = { context, tenant, resource: request.name, request, ...schemas };
  return transactor.mutate(scope, async (mutation) => {
    const { db, actor } = mutation;
    const version = await resolveVersion(db, request.name, "name");
    const referrers = await referrersOfDigest(db, tenant, digest);
    const present = await db
      .selectFrom("revocations")
      .select("revision")
      .where("tenant", "=", tenant)
      .where("digest", "=", digest)
      .executeTakeFirst();
    if (present !== undefined) {
      mutation.audit({ action: "RevokeVersionAgain", resource: request.name, reason: request.reason });
      return { version: await versionMessage(db, version), revision: present.revision, referrers };
    }
    if (referrers.length > 0 && !request.force) throw referenced(request.name, referrers);
    mutation.audit({
      action: "RevokeVersion",
      resource: request.name,
      after: { revoked: true, digest, referrers },
      reason: request.reason,
    });
    mutation.emit({
      modelChecksum: version.model_checksum,
      change: { tenant, state: { case: "versionRevoked", value: { digest } } },
    });
    const revision = await mutation.takeRevision();
    await db
      .insertInto("revocations")
      .values({ tenant, digest, revision, reason: request.reason, revoked_by: actor })
      .execute();
    return { version: await versionMessage(db, version), revision, referrers };
  });
}
