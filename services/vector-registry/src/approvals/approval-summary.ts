import type { MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { ApprovalState, type ApprovalSummarySchema } from "@persona-mesh/protocol/registry";
import { sql } from "kysely";
import type { Tx } from "../database/tx.ts";

/** A version as approvals know it: they are bound to its digest. */
export interface VersionKey {
  readonly tenant: string;
  readonly vector: string;
  readonly digest: string;
}

type Summary = MessageInitShape<typeof ApprovalSummarySchema>;

interface Approvals {
  readonly approvals: number;
  readonly required: number;
  readonly rejected: boolean;
  readonly expires_at: Date | null;
}

/** How a version stands with the people who approve, by the tenant's policy of this moment. */
export async function approvalSummary(db: Tx, key: VersionKey): Promise<Summary> {
  const [summary] = await approvalSummaries(db, key.tenant, [key]);
  return summary as Summary;
}

/** The same for versions of one tenant, in their order, in one statement. */
export async function approvalSummaries(
  db: Tx,
  tenant: string,
  keys: readonly Omit<VersionKey, "tenant">[],
): Promise<Summary[]> {
  const vectors = keys.map(({ vector }) => vector);
  const digests = keys.map(({ digest }) => digest);
  const { rows } = await sql<Approvals>`
    SELECT a.* FROM unnest(${vectors}::text[], ${digests}::text[]) WITH ORDINALITY AS k (vector, digest, place),
      approval_of(${tenant}, k.vector, k.digest) a
    ORDER BY k.place`.execute(db);
  return rows.map(summaryOf);
}

function summaryOf({ approvals, required, rejected, expires_at: expiresAt }: Approvals): Summary {
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
