import type { MessageInitShape } from "@bufbuild/protobuf";
import {
  type DeleteAliasRequest,
  DeleteAliasRequestSchema,
  DeleteAliasResponseSchema,
} from "@persona-mesh/protocol/registry";
import type { CallContext } from "@persona-mesh/service";
import { requireEtag } from "../etag.ts";
import { notFound, referenced } from "../failures.ts";
import type { Registry } from "../registry.ts";
import { REASON, requireFields, textViolations } from "../request-fields.ts";
import { ALIAS_NAME } from "../resource-name.ts";
import { readAlias } from "./alias-rows.ts";
import { followersOfAlias } from "./referrers.ts";

/** Take an alias away that no persona follows. Its history stays. */
export async function deleteAlias(
  { transactor }: Registry,
  request: DeleteAliasRequest,
  context: CallContext,
): Promise<MessageInitShape<typeof DeleteAliasResponseSchema>> {
  const ids = ALIAS_NAME.parse(request.name, "name");
  requireFields(textViolations("reason", request.reason, REASON));
  const schemas = { requestSchema: DeleteAliasRequestSchema, responseSchema: DeleteAliasResponseSchema };
  const scope = { context, tenant: ids.tenant, resource: request.name, request, ...schemas };
  return transactor.mutate(scope, async (mutation) => {
    const { db } = mutation;
    const row = await readAlias(db, ids);
    if (row === undefined) throw notFound(request.name);
    requireEtag(request.etag, row, request.name);
    const followers = await followersOfAlias(db, ids);
    if (followers.length > 0) throw referenced(request.name, followers);
    await db
      .deleteFrom("aliases")
      .where("tenant", "=", ids.tenant)
      .where("vector", "=", ids.vector)
      .where("alias", "=", ids.alias)
      .execute();
    mutation.audit({
      action: "DeleteAlias",
      resource: request.name,
      before: { digest: row.digest, number: row.number },
      reason: request.reason,
    });
    return {};
  });
}
