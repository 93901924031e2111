import type { MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { ApprovalState, type ApprovalSummarySchema } from "@persona-mesh/protocol/registry";
import { sql } from "kysely";
import type { Tx } from "../database/transaction.ts";

/** A version as approvals know it: they are bound to its digest. */
export interface VersionKey {
  readonly tenant: string;
  readonly vector: string;
  readonly digest: string;
}

interface Approvals {
  readonly approvals: number;
  readonly required: number;
  readonly rejected: boolean;
  readonly expires_at: Date | null;
}

/** How a version stands with the people who approve, by the tenant's policy of this moment. */
export async function approvalSummary(
  db: Tx,
  { tenant, vector, digest }: VersionKey,
): Promise<MessageInitShape<typeof ApprovalSummarySchema>> {
  const { rows } = await sql<Approvals>`SELECT * FROM approval_of(${tenant}, ${vector}, ${digest})`.execute(db);
  const { approvals, required, rejected, expires_at: expiresAt } = rows[0] as Approvals;
  const state = rejected
    ? ApprovalState.REJECTED
    : approvals >= required
      ? ApprovalState.APPROVED
      : ApprovalState.PENDING;
  return {
    state,
    approvals,
    required,
    ...(expiresAt === null ? {} : { expireTime: timestampFromDate(expiresAt) }),
  };
}
