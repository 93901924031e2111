import {
  DeploymentContextSchema,
  GuardCachePolicySchema,
  type GuardPolicy,
  ResourceStateSchema,
  RevocationPolicySchema,
  type ServingQuotas,
  type Tenant,
} from "@persona-mesh/protocol/registry";
import { enumName } from "../enum-name.ts";
import { hundredths, lifetime, shortName, time } from "./cells.ts";
import { fields } from "./output.ts";

/** A tenant for people: its policy, quotas and active persona. */
export function tenantLines(tenant: Tenant): string[] {
  const { policy, quotas, activePersona } = tenant;
  const cap = tenant.alphaCapHundredths;
  return fields([
    ["tenant", shortName(tenant.name)],
    ["display name", tenant.displayName],
    ["context", enumName(DeploymentContextSchema, tenant.context)],
    ["alpha cap", cap === undefined ? "the context's" : hundredths(cap)],
    ["approvals needed", String(policy?.requiredApprovals ?? "")],
    ["approvers", policy?.approvers.join(", ") || "everyone with the role approver"],
    ["approval lifetime", lifetime(policy?.approvalLifetime)],
    ["revocation", enumName(RevocationPolicySchema, policy?.revocation ?? 0)],
    ["staleness limit", lifetime(policy?.stalenessLimit)],
    ...guardPairs(policy?.guard),
    ["max vectors", String(quotas?.maxVectors ?? "")],
    ["max versions", String(quotas?.maxVersions ?? "")],
    ["max personas", String(quotas?.maxPersonas ?? "")],
    ["max stored bytes", String(quotas?.maxStoredBytes ?? "")],
    ...servingPairs(quotas?.serving),
    ["active persona", shortName(activePersona?.revision ?? "")],
    ["active since", time(activePersona?.activateTime)],
    ["unreviewed break-glass", String(tenant.unreviewedBreakGlass)],
    ["state", enumName(ResourceStateSchema, tenant.state)],
    ["created", time(tenant.createTime)],
    ["updated", time(tenant.updateTime)],
    ["etag", tenant.etag],
  ]);
}

type Pair = readonly [name: string, value: string];

/** Nothing of a registry that is older than the guard. */
function guardPairs(guard: GuardPolicy | undefined): Pair[] {
  if (guard === undefined) return [];
  const twins = guard.twinShareBasisPoints;
  return [
    ["guard", guard.observeOnly ? "only observes" : "acts"],
    ["guard window", `${guard.windowTokens} tokens`],
    ["guard band", hundredths(guard.bandHundredths)],
    ["guard step", hundredths(guard.stepHundredths)],
    ["guard repetition", hundredths(guard.repetitionHundredths)],
    ["guard cache", enumName(GuardCachePolicySchema, guard.cache)],
    ["guard refill", guard.refillTokens === 0 ? "as the cache says" : `every ${guard.refillTokens} tokens`],
    ["twin share", twins === undefined ? "" : String(twins / 10_000)],
  ];
}

function servingPairs(serving: ServingQuotas | undefined): Pair[] {
  if (serving === undefined) return [];
  return [
    ["weight", String(serving.weight)],
    ["max running", String(serving.maxRunning || "all slots")],
    ["max waiting", String(serving.maxWaiting || "the worker's default")],
    ["tokens per minute", String(serving.tokensPerMinute || "no limit")],
  ];
}
