import type { MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { ApprovalDecision, type ApprovalSchema, type BreakGlassUseSchema } from "@persona-mesh/protocol/registry";
import type { Selectable } from "kysely";
import type { ApprovalsTable, BreakGlassUsesTable } from "../database/schema.ts";
import { etagOf } from "../etag.ts";
import { APPROVAL_NAME, BREAK_GLASS_NAME, VERSION_NAME } from "../resource-name.ts";

export function approvalMessage(row: Selectable<ApprovalsTable>): MessageInitShape<typeof ApprovalSchema> {
  return {
    name: APPROVAL_NAME.format(row),
    version: VERSION_NAME.format(row),
    decision: row.decision === "APPROVE" ? ApprovalDecision.APPROVE : ApprovalDecision.REJECT,
    approver: row.approver,
    reason: row.reason,
    createTime: timestampFromDate(row.created_at),
    expireTime: timestampFromDate(row.expires_at),
    ...(row.revoked_at === null
      ? {}
      : { revokeTime: timestampFromDate(row.revoked_at), revokedBy: row.revoked_by ?? "" }),
    etag: etagOf(row),
  };
}

export function breakGlassUseMessage(
  row: Selectable<BreakGlassUsesTable>,
): MessageInitShape<typeof BreakGlassUseSchema> {
  const { reviewer, accepted, note, reviewed_at: reviewedAt } = row;
  return {
    name: BREAK_GLASS_NAME.format(row),
    action: row.action,
    resource: row.resource,
    actor: row.actor,
    justification: row.justification,
    createTime: timestampFromDate(row.created_at),
    ...(reviewedAt === null
      ? {}
      : {
          review: {
            reviewer: reviewer ?? "",
            accepted: accepted ?? false,
            note: note ?? "",
            createTime: timestampFromDate(reviewedAt),
          },
        }),
  };
}
