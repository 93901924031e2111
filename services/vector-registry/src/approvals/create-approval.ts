import { randomUUID } from "node:crypto";
import type { MessageInitShape } from "@bufbuild/protobuf";
import {
  ApprovalDecision,
  type CreateApprovalRequest,
  CreateApprovalRequestSchema,
  CreateApprovalResponseSchema,
} from "@persona-mesh/protocol/registry";
import { type CallContext, ServiceError } from "@persona-mesh/service";
import type { Mutation } from "../database/mutation.ts";
import type { ApprovalsTable } from "../database/schema.ts";
import { notFound } from "../failures.ts";
import { releaseReady } from "../personas/release.ts";
import type { Registry } from "../registry.ts";
import { REASON, requireFields, textViolations } from "../request-fields.ts";
import { APPROVAL_NAME, TENANT_NAME, VERSION_NAME } from "../resource-name.ts";
import { approvalMessage } from "./approval-message.ts";
import type { VersionKey } from "./approval-summary.ts";

/**
 * Decide on a version. What counts is the database's to say: who made the version cannot approve it, nobody decides twice,
 * and a decision ends with the lifetime that the policy gives it.
 *
 * Identity is the token's subject: one person with two subjects, of two issuers or two accounts, is two people here.
 */
export async function createApproval(
  { transactor }: Registry,
  request: CreateApprovalRequest,
  context: CallContext,
): Promise<MessageInitShape<typeof CreateApprovalResponseSchema>> {
  const { tenant } = TENANT_NAME.parse(request.parent, "parent");
  const version = VERSION_NAME.parse(request.version, "version");
  const decision = decisionOf(request.decision);
  requireFields(textViolations("reason", request.reason, REASON));
  const scope = {
    context,
    tenant,
    resource: request.version,
    request,
    requestSchema: CreateApprovalRequestSchema,
    responseSchema: CreateApprovalResponseSchema,
  };
  return transactor.mutate(scope, async (mutation) => {
    if (version.tenant !== tenant) throw notFound(request.version);
    await requireVersion(mutation, version, decision);
    const lifetime = Number(mutation.tenantRow?.approval_lifetime_seconds ?? 0n);
    const approval = await mutation.db
      .insertInto("approvals")
      .values({
        ...version,
        approval: randomUUID(),
        decision,
        approver: mutation.actor,
        reason: request.reason,
        expires_at: new Date(mutation.now.getTime() + lifetime * 1000),
        revoked_at: null,
        revoked_by: null,
      })
      .returningAll()
      .executeTakeFirstOrThrow();
    mutation.audit({
      action: "CreateApproval",
      resource: APPROVAL_NAME.format(approval),
      after: { version: request.version, decision, expires: approval.expires_at.toISOString() },
      reason: request.reason,
    });
    const releasedRevisions = await releaseReady(mutation, version);
    return {
      approval: approvalMessage(approval),
      releasedRevisions,
      revision: releasedRevisions.length > 0 ? await mutation.takeRevision() : 0n,
    };
  });
}

function decisionOf(decision: ApprovalDecision): ApprovalsTable["decision"] {
  if (decision === ApprovalDecision.APPROVE) return "APPROVE";
  if (decision === ApprovalDecision.REJECT) return "REJECT";
  throw ServiceError.invalid([{ field: "decision", description: "must be APPROVE or REJECT" }]);
}

async function requireVersion({ db }: Mutation, key: VersionKey, decision: ApprovalsTable["decision"]): Promise<void> {
  const found = await db
    .selectFrom("versions")
    .leftJoin("revocations", (join) =>
      join.onRef("revocations.tenant", "=", "versions.tenant").onRef("revocations.digest", "=", "versions.digest"),
    )
    .select("revocations.revision as revoked")
    .where("versions.tenant", "=", key.tenant)
    .where("versions.vector", "=", key.vector)
    .where("versions.digest", "=", key.digest)
    .executeTakeFirst();
  const name = VERSION_NAME.format(key);
  if (found === undefined) throw notFound(name);
  if (found.revoked !== null && decision === "APPROVE") {
    throw new ServiceError("VERSION_REVOKED", `"${name}" is revoked; no approval brings it back`, {
      metadata: { resource: name },
    });
  }
}
