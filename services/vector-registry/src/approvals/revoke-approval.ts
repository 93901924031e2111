import type { MessageInitShape } from "@bufbuild/protobuf";
import {
  type RevokeApprovalRequest,
  RevokeApprovalRequestSchema,
  RevokeApprovalResponseSchema,
} from "@persona-mesh/protocol/registry";
import { type CallContext, ServiceError } from "@persona-mesh/service";
import { type Selectable, sql } from "kysely";
import type { Mutation } from "../database/mutation.ts";
import type { ApprovalsTable } from "../database/schema.ts";
import type { Tx } from "../database/tx.ts";
import { requireEtag } from "../etag.ts";
import { notFound } from "../failures.ts";
import { releaseReady } from "../personas/release.ts";
import type { Registry } from "../registry.ts";
import { REASON, requireFields, textViolations } from "../request-fields.ts";
import { APPROVAL_NAME, type Ids, VERSION_NAME } from "../resource-name.ts";
import { approvalMessage } from "./approval-message.ts";

/**
 * Withdraw a decision: who made it, or an admin of the tenant. But who made a version cannot withdraw others' rejection of
 * it, whatever the role: that would be approving one's own by the back door.
 *
 * What an approval let into production stays there; only the next move is refused. A rejection that is withdrawn may release
 * personas. Withdrawing what is withdrawn changes nothing.
 */
export async function revokeApproval(
  { transactor }: Registry,
  request: RevokeApprovalRequest,
  context: CallContext,
): Promise<MessageInitShape<typeof RevokeApprovalResponseSchema>> {
  const ids = APPROVAL_NAME.parse(request.name, "name");
  requireFields(textViolations("reason", request.reason, REASON));
  const scope = {
    context,
    tenant: ids.tenant,
    resource: request.name,
    request,
    requestSchema: RevokeApprovalRequestSchema,
    responseSchema: RevokeApprovalResponseSchema,
  };
  return transactor.mutate(scope, async (mutation) => {
    const { db, actor, now } = mutation;
    const before = await readApproval(db, ids);
    requireEtag(request.etag, before, request.name);
    await requireMayRevoke(mutation, before);
    if (before.revoked_at !== null) return { approval: approvalMessage(before) };
    const after = await db
      .updateTable("approvals")
      .set({ revoked_at: now, revoked_by: actor, etag: sql`etag + 1` })
      .where("tenant", "=", ids.tenant)
      .where("approval", "=", ids.approval)
      .returningAll()
      .executeTakeFirstOrThrow();
    mutation.audit({
      action: "RevokeApproval",
      resource: request.name,
      before: { version: VERSION_NAME.format(before), decision: before.decision, approver: before.approver },
      after: { revokedBy: actor },
      reason: request.reason,
    });
    await releaseReady(mutation, before);
    return { approval: approvalMessage(after) };
  });
}

/** @throws ServiceError RESOURCE_NOT_FOUND */
export async function readApproval(
  db: Tx,
  ids: Ids<typeof APPROVAL_NAME.pattern>,
): Promise<Selectable<ApprovalsTable>> {
  const row = await db
    .selectFrom("approvals")
    .selectAll()
    .where("tenant", "=", ids.tenant)
    .where("approval", "=", ids.approval)
    .executeTakeFirst();
  if (row === undefined) throw notFound(APPROVAL_NAME.format(ids));
  return row;
}

async function requireMayRevoke({ db, actor, context }: Mutation, row: Selectable<ApprovalsTable>): Promise<void> {
  if (row.approver === actor) return;
  const name = APPROVAL_NAME.format(row);
  if (!context.caller.roles.has("admin")) {
    throw new ServiceError("PERMISSION_DENIED", `"${name}" is ${row.approver}'s to withdraw, or an admin's`, {
      metadata: { resource: name },
    });
  }
  if (row.decision === "APPROVE") return;
  const { submitter, requested_by: requestedBy } = await db
    .selectFrom("versions")
    .select(["submitter", "requested_by"])
    .where("tenant", "=", row.tenant)
    .where("vector", "=", row.vector)
    .where("digest", "=", row.digest)
    .executeTakeFirstOrThrow();
  if (actor === submitter || actor === requestedBy) {
    throw new ServiceError("SELF_APPROVAL", `${actor} made version ${row.digest} and cannot withdraw its rejection`, {
      metadata: { resource: name },
    });
  }
}
