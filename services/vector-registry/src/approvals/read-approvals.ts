import type { MessageInitShape } from "@bufbuild/protobuf";
import type {
  GetApprovalRequest,
  GetApprovalResponseSchema,
  ListApprovalsRequest,
  ListApprovalsResponseSchema,
} from "@persona-mesh/protocol/registry";
import type { CallContext } from "@persona-mesh/service";
import { notFound } from "../failures.ts";
import { pageOf } from "../paging.ts";
import type { Registry } from "../registry.ts";
import { APPROVAL_NAME, TENANT_NAME, VERSION_NAME } from "../resource-name.ts";
import { approvalMessage } from "./approval-message.ts";
import { isAfter, MICROSECONDS, placeIn, placeKey } from "./newest-first.ts";
import { readApproval } from "./revoke-approval.ts";

export async function getApproval(
  { transactor }: Registry,
  { name }: GetApprovalRequest,
  context: CallContext,
): Promise<MessageInitShape<typeof GetApprovalResponseSchema>> {
  const ids = APPROVAL_NAME.parse(name, "name");
  return transactor.read(context, ids.tenant, name, async (db) => ({
    approval: approvalMessage(await readApproval(db, ids)),
  }));
}

/** Newest first; withdrawn and expired ones too. */
export async function listApprovals(
  { transactor }: Registry,
  request: ListApprovalsRequest,
  context: CallContext,
): Promise<MessageInitShape<typeof ListApprovalsResponseSchema>> {
  const { tenant } = TENANT_NAME.parse(request.parent, "parent");
  const version = request.version === "" ? undefined : VERSION_NAME.parse(request.version, "version");
  const page = pageOf(request, "approvals", tenant, request.version);
  const after = placeIn(page.after);
  return transactor.read(context, tenant, request.parent, async (db) => {
    if (version !== undefined && version.tenant !== tenant) throw notFound(request.version);
    const found = await db
      .selectFrom("approvals")
      .selectAll()
      .select(MICROSECONDS.as("micros"))
      .where("tenant", "=", tenant)
      .$if(version !== undefined, (query) =>
        query.where("vector", "=", version?.vector ?? "").where("digest", "=", version?.digest ?? ""),
      )
      .$if(after !== undefined, (query) => query.where(isAfter(after as NonNullable<typeof after>, "approval")))
      .orderBy("created_at", "desc")
      .orderBy("approval", "desc")
      .limit(page.limit + 1)
      .execute();
    const { rows, nextPageToken } = page.take(found, ({ micros, approval }) => placeKey({ micros, id: approval }));
    return { approvals: rows.map(approvalMessage), nextPageToken };
  });
}
