import type { ApprovalService } from "@persona-mesh/protocol/registry";
import type { ServiceImplementation } from "@persona-mesh/service";
import type { Registry } from "../registry.ts";
import { listBreakGlassUses, reviewBreakGlassUse } from "./break-glass-uses.ts";
import { createApproval } from "./create-approval.ts";
import { getApproval, listApprovals } from "./read-approvals.ts";
import { revokeApproval } from "./revoke-approval.ts";

/** Who approves of which version, and what went past approval. */
export function approvalService(registry: Registry): ServiceImplementation<typeof ApprovalService> {
  return {
    createApproval: (request, context) => createApproval(registry, request, context),
    getApproval: (request, context) => getApproval(registry, request, context),
    listApprovals: (request, context) => listApprovals(registry, request, context),
    revokeApproval: (request, context) => revokeApproval(registry, request, context),
    listBreakGlassUses: (request, context) => listBreakGlassUses(registry, request, context),
    reviewBreakGlassUse: (request, context) => reviewBreakGlassUse(registry, request, context),
  };
}
