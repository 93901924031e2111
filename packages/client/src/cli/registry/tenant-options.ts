import type { MessageInitShape } from "@bufbuild/protobuf";
import { type Duration, durationFromMs } from "@bufbuild/protobuf/wkt";
import {
  DeploymentContext,
  GuardCachePolicy,
  RevocationPolicy,
  type TenantSchema,
} from "@persona-mesh/protocol/registry";
import type { RoleName } from "@persona-mesh/service/client";
import { GUARD_POLICY_BOUNDS } from "@persona-mesh/steering";
import { type Command, InvalidArgumentError, Option } from "commander";
import { decimal, duration, integer, repeated } from "../arguments.ts";

/** As the registry's columns hold. */
const MAX_COUNT = 2 ** 31 - 1;

/** What a tenant says of itself, as options. Shares are whole numbers of the smallest step: 0.15 is 15. */
export interface TenantFields {
  displayName?: string;
  context?: "customer-facing" | "internal";
  alphaCap?: number;
  requiredApprovals?: number;
  approver?: string[];
  approvalLifetime?: Duration;
  revocation?: "remove" | "end";
  stalenessLimit?: Duration;
  guardObserveOnly?: boolean;
  guardWindow?: number;
  guardBand?: number;
  guardStep?: number;
  guardRepetition?: number;
  guardCache?: "keep" | "reprefill";
  guardRefill?: number;
  twinShare?: number;
  maxVectors?: number;
  maxVersions?: number;
  maxPersonas?: number;
  maxStoredBytes?: number;
  weight?: number;
  maxRunning?: number;
  maxWaiting?: number;
  tokensPerMinute?: number;
}

/** Where each option's value stands. Those below `quotas` are the platform's to change. */
const PATHS: Readonly<Record<keyof TenantFields, string>> = {
  displayName: "display_name",
  context: "context",
  alphaCap: "alpha_cap_hundredths",
  requiredApprovals: "policy.required_approvals",
  approver: "policy.approvers",
  approvalLifetime: "policy.approval_lifetime",
  revocation: "policy.revocation",
  stalenessLimit: "policy.staleness_limit",
  guardObserveOnly: "policy.guard.observe_only",
  guardWindow: "policy.guard.window_tokens",
  guardBand: "policy.guard.band_hundredths",
  guardStep: "policy.guard.step_hundredths",
  guardRepetition: "policy.guard.repetition_hundredths",
  guardCache: "policy.guard.cache",
  guardRefill: "policy.guard.refill_tokens",
  twinShare: "policy.guard.twin_share_basis_points",
  maxVectors: "quotas.max_vectors",
  maxVersions: "quotas.max_versions",
  maxPersonas: "quotas.max_personas",
  maxStoredBytes: "quotas.max_stored_bytes",
  weight: "quotas.serving.weight",
  maxRunning: "quotas.serving.max_running",
  maxWaiting: "quotas.serving.max_waiting",
  tokensPerMinute: "quotas.serving.tokens_per_minute",
};

export function addTenantOptions(command: Command): void {
  const count = integer(1, MAX_COUNT);
  const bounds = GUARD_POLICY_BOUNDS;
  command
    .option("--display-name <text>", "name for people")
    .addOption(
      new Option("--context <context>", "where texts go: caps alpha at 0.5 or 0.8").choices([
        "customer-facing",
        "internal",
      ]),
    )
    .option("--alpha-cap <alpha>", "own cap, at most the context's", share([0, 80], 100))
    .option("--required-approvals <n>", "different approvers that a version needs", integer(1, 10))
    .option("--approver <subject>", "who may approve; repeat it, everyone with the role where not given", repeated)
    .option("--approval-lifetime <duration>", "how long an approval holds, such as 90d", anyDuration)
    .addOption(
      new Option("--revocation <policy>", "running streams that wear a revoked version").choices(["remove", "end"]),
    )
    .option("--staleness-limit <duration>", "how long workers serve without hearing from the registry", anyDuration)
    .option("--guard-window <tokens>", "tokens that the guard looks at together", integer(...bounds.windowTokens))
    .option(
      "--guard-band <share>",
      "how far entropy may be from the baseline, such as 0.15",
      share(bounds.bandHundredths, 100),
    )
    .option("--guard-step <alpha>", "what an event takes from effective alpha", share(bounds.stepHundredths, 100))
    .option(
      "--guard-repetition <share>",
      "repetition that is out of bounds, such as 0.75",
      share(bounds.repetitionHundredths, 100),
    )
    .addOption(
      new Option("--guard-cache <policy>", "what was computed at a higher alpha").choices(["keep", "reprefill"]),
    )
    .option(
      "--guard-refill <tokens>",
      "compute keys and values of a steered reply anew every so many, 0 for not",
      refillTokens,
    )
    .option("--guard-observe-only", "the guard reports, and never lowers alpha")
    .option("--no-guard-observe-only", "the guard acts")
    .option(
      "--twin-share <share>",
      "share of replies with an unsteered twin, such as 0.01",
      share(bounds.twinShareBasisPoints, 10_000),
    )
    .option("--max-vectors <n>", "quota (the platform's)", count)
    .option("--max-versions <n>", "quota of one vector (the platform's)", count)
    .option("--max-personas <n>", "quota (the platform's)", count)
    .option("--max-stored-bytes <n>", "quota of all versions (the platform's)", integer(1, Number.MAX_SAFE_INTEGER))
    .option("--weight <n>", "share of a busy worker, 100 for as much as others (the platform's)", integer(1, 1000))
    .option("--max-running <n>", "replies at once at a worker, 0 for all slots (the platform's)", integer(0, MAX_COUNT))
    .option(
      "--max-waiting <n>",
      "replies that wait at a worker, 0 for the worker's default (the platform's)",
      integer(0, MAX_COUNT),
    )
    .option(
      "--tokens-per-minute <n>",
      "prompt and reply together at a worker, 0 for no limit (the platform's)",
      integer(0, MAX_COUNT),
    );
}

/** A share or an alpha within bounds, both in steps of 1/`steps`; gives the number of steps. */
function share([least, most]: readonly [number, number], steps: 100 | 10_000): (value: string) => number {
  return (value) => {
    const exact = decimal(least / steps, most / steps)(value) * steps;
    const whole = Math.round(exact);
    if (Math.abs(exact - whole) > 1e-9 * steps) {
      throw new InvalidArgumentError(`It must have at most ${Math.log10(steps) === 2 ? "two" : "four"} decimals.`);
    }
    return whole;
  };
}

/** Tokens between two refills, or 0 for none. */
function refillTokens(value: string): number {
  return value.trim() === "0" ? 0 : integer(...GUARD_POLICY_BOUNDS.refillTokens)(value);
}

/** Policies last longer than calls: days beyond the range of timers are fine. */
function anyDuration(value: string): Duration {
  const days = /^(\d{1,5})d$/.exec(value.trim());
  return durationFromMs(days ? Number(days[1]) * 86_400_000 : duration(value));
}

/** Paths of the fields that the options name: a field can also be set to what counts as unset. */
export function pathsOf(options: TenantFields): string[] {
  return Object.entries(PATHS).flatMap(([option, path]) =>
    options[option as keyof TenantFields] === undefined ? [] : [path],
  );
}

/** Whether the options name what the platform decides. */
export function namesQuotas(options: TenantFields): boolean {
  return pathsOf(options).some(isQuota);
}

/** Whether the options name what the tenant's approvers decide. */
export function namesPolicy(options: TenantFields): boolean {
  return pathsOf(options).some((path) => path !== PATHS.displayName && !isQuota(path));
}

const isQuota = (path: string) => path.startsWith("quotas.");

/** What decides about approval, strength and guard is for approvers. */
export function rolesFor(options: TenantFields): RoleName[] {
  const policy = namesPolicy(options);
  return [
    ...(policy ? ["approver" as const] : []),
    ...(policy && options.displayName === undefined ? [] : ["admin" as const]),
  ];
}

/** The tenant with what the options name. */
export function tenantOf(options: TenantFields): MessageInitShape<typeof TenantSchema> {
  const { context, revocation, guardCache, maxStoredBytes } = options;
  return given({
    displayName: options.displayName,
    context: context && (context === "internal" ? DeploymentContext.INTERNAL : DeploymentContext.CUSTOMER_FACING),
    alphaCapHundredths: options.alphaCap,
    policy: given({
      requiredApprovals: options.requiredApprovals,
      approvers: options.approver,
      approvalLifetime: options.approvalLifetime,
      revocation: revocation && (revocation === "end" ? RevocationPolicy.END : RevocationPolicy.REMOVE),
      stalenessLimit: options.stalenessLimit,
      guard: given({
        observeOnly: options.guardObserveOnly,
        windowTokens: options.guardWindow,
        bandHundredths: options.guardBand,
        stepHundredths: options.guardStep,
        repetitionHundredths: options.guardRepetition,
        cache: guardCache && (guardCache === "reprefill" ? GuardCachePolicy.REPREFILL : GuardCachePolicy.KEEP),
        twinShareBasisPoints: options.twinShare,
        refillTokens: options.guardRefill,
      }),
    }),
    quotas: given({
      maxVectors: options.maxVectors,
      maxVersions: options.maxVersions,
      maxPersonas: options.maxPersonas,
      maxStoredBytes: maxStoredBytes === undefined ? undefined : BigInt(maxStoredBytes),
      serving: given({
        weight: options.weight,
        maxRunning: options.maxRunning,
        maxWaiting: options.maxWaiting,
        tokensPerMinute: options.tokensPerMinute,
      }),
    }),
  });
}

/** The fields that have a value. */
function given<T extends object>(fields: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as never;
}
