import type { MessageInitShape } from "@bufbuild/protobuf";
import { type Duration, durationFromMs } from "@bufbuild/protobuf/wkt";
import {
  DeploymentContext,
  DeploymentContextSchema,
  ResourceStateSchema,
  RevocationPolicy,
  RevocationPolicySchema,
  type Tenant,
  type TenantSchema,
} from "@persona-mesh/protocol/registry";
import type { RoleName } from "@persona-mesh/service/client";
import { type Command, InvalidArgumentError, Option } from "commander";
import { decimal, duration, integer, repeated } from "../../arguments.ts";
import { enumName } from "../../enum-name.ts";
import { UsageError } from "../../failure.ts";
import type { CliIo } from "../../io.ts";
import { hundredths, lifetime, shortName, time } from "../../registry/cells.ts";
import {
  addChangeOptions,
  type ChangeOptions,
  changeFields,
  finishChange,
  isConfirmed,
} from "../../registry/change.ts";
import { tenantId } from "../../registry/names.ts";
import { examples, fields, printAnswer, printItems } from "../../registry/output.ts";
import { onRegistry, type RegistrySession } from "../../registry/session.ts";

const MAX_COUNT = 2 ** 32 - 1;

/** What a tenant says of itself, as options. */
interface TenantOptions extends ChangeOptions {
  displayName?: string;
  context?: "customer-facing" | "internal";
  alphaCap?: number;
  requiredApprovals?: number;
  approver?: string[];
  approvalLifetime?: Duration;
  revocation?: "remove" | "end";
  stalenessLimit?: Duration;
  maxVectors?: number;
  maxVersions?: number;
  maxPersonas?: number;
  maxStoredBytes?: number;
}

/** `persona tenant …`: who owns vectors and personas, and by what policy. */
export function addTenantCommands(tenant: Command, io: CliIo): void {
  const create = tenant
    .command("create")
    .description("Make a tenant (the platform's admins)")
    .argument("<id>", "lower-case letters, digits and hyphens")
    .addHelpText("after", examples(["tenant create acme", "tenant create acme --required-approvals 2 --dry-run"]));
  addTenantOptions(create);
  addChangeOptions(create);
  onRegistry<TenantOptions>(create, io, { roles: ["admin"], isPlatform: true }, createTenant);

  const show = tenant
    .command("show")
    .description("Show a tenant: its policy, quotas and active persona")
    .argument("[id]", "the caller's own where it is left out")
    .addHelpText("after", examples(["tenant show", "tenant show acme --json"]));
  onRegistry(show, io, { roles: ["viewer"], tenantOf: tenantId }, showTenant);

  const list = tenant
    .command("list")
    .description("List the tenants that the caller may see: all, or the own one")
    .option("--deleted", "deleted ones too")
    .addHelpText("after", examples(["tenant list", "tenant list --role viewer --json"]));
  onRegistry<{ deleted?: true }>(list, io, { roles: ["viewer"], isPlatform: true }, async ({ context, client, call }) =>
    printItems(context, {
      key: "tenants",
      items: client.listTenants({ showDeleted: context.options.deleted === true }, call),
      columns: [
        { heading: "TENANT", cell: ({ name }) => shortName(name) },
        { heading: "CONTEXT", cell: (it) => enumName(DeploymentContextSchema, it.context) },
        { heading: "APPROVALS", align: "right", cell: ({ policy }) => String(policy?.requiredApprovals ?? "") },
        { heading: "ACTIVE PERSONA", cell: ({ activePersona }) => shortName(activePersona?.revision ?? "") },
        { heading: "STATE", cell: ({ state }) => enumName(ResourceStateSchema, state) },
        { heading: "UPDATED", cell: ({ updateTime }) => time(updateTime) },
      ],
    }),
  );

  const update = tenant
    .command("update")
    .description("Change a tenant: policy for its approvers, quotas for the platform, its name for either's admins")
    .argument("<id>")
    .addHelpText(
      "after",
      examples(
        ["tenant update acme --context internal --reason 'staff only'", "tenant update acme --max-personas 5000"],
        "Options that are not given stay as they are. The platform's options and the others exclude each other.",
      ),
    );
  addTenantOptions(update);
  addChangeOptions(update, "reason", "etag");
  onRegistry<TenantOptions>(update, io, { roles: rolesFor, isPlatform: namesQuotas, tenantOf: tenantId }, updateTenant);

  const remove = tenant
    .command("delete")
    .description("Delete a tenant; its personas are not served any more (the platform's admins)")
    .argument("<id>")
    .addHelpText("after", examples(["tenant delete acme", "tenant delete acme --yes --reason 'contract ended'"]));
  addChangeOptions(remove, "reason", "etag", "yes");
  onRegistry<ChangeOptions>(remove, io, { roles: ["admin"], isPlatform: true }, async (session, id = "") => {
    const name = `tenants/${tenantId(id)}`;
    if (!(await isConfirmed(session.context, `Delete ${name}? Its personas are not served any more.`))) return;
    const response = await session.client.tenants.deleteTenant(
      { name, ...changeFields(session.options) },
      session.call,
    );
    await finishChange(session, { name, response, lines: [`deleted ${name}`] });
  });

  const undelete = tenant
    .command("undelete")
    .description("Bring a deleted tenant back (the platform's admins)")
    .argument("<id>")
    .addHelpText("after", examples(["tenant undelete acme"]));
  addChangeOptions(undelete, "reason", "etag");
  onRegistry<ChangeOptions>(undelete, io, { roles: ["admin"], isPlatform: true }, async (session, id = "") => {
    const name = `tenants/${tenantId(id)}`;
    const response = await session.client.tenants.undeleteTenant(
      { name, ...changeFields(session.options) },
      session.call,
    );
    await finishChange(session, { name, response, lines: [`${name} is back`] });
  });
}

function addTenantOptions(command: Command): void {
  const bytes = integer(1, Number.MAX_SAFE_INTEGER);
  const count = integer(1, MAX_COUNT);
  command
    .option("--display-name <text>", "name for people")
    .addOption(
      new Option("--context <context>", "where texts go: caps alpha at 0.5 or 0.8").choices([
        "customer-facing",
        "internal",
      ]),
    )
    .option("--alpha-cap <alpha>", "own cap, at most the context's", alphaCap)
    .option("--required-approvals <n>", "different approvers that a version needs", integer(1, 10))
    .option("--approver <subject>", "who may approve; repeat it, everyone with the role where not given", repeated)
    .option("--approval-lifetime <duration>", "how long an approval holds, such as 90d", anyDuration)
    .addOption(
      new Option("--revocation <policy>", "running streams that wear a revoked version").choices(["remove", "end"]),
    )
    .option("--staleness-limit <duration>", "how long workers serve without hearing from the registry", anyDuration)
    .option("--max-vectors <n>", "quota (the platform's)", count)
    .option("--max-versions <n>", "quota of one vector (the platform's)", count)
    .option("--max-personas <n>", "quota (the platform's)", count)
    .option("--max-stored-bytes <n>", "quota of all versions (the platform's)", bytes);
}

/** In hundredths. */
function alphaCap(value: string): number {
  const cap = decimal(0, 0.8)(value) * 100;
  if (Math.abs(cap - Math.round(cap)) > 1e-9) throw new InvalidArgumentError("It must have at most two decimals.");
  return Math.round(cap);
}

/** Policies last longer than calls: days beyond the range of timers are fine. */
function anyDuration(value: string): Duration {
  const days = /^(\d{1,5})d$/.exec(value.trim());
  return durationFromMs(days ? Number(days[1]) * 86_400_000 : duration(value));
}

const QUOTAS = ["maxVectors", "maxVersions", "maxPersonas", "maxStoredBytes"] as const;
const POLICY = [
  "context",
  "alphaCap",
  "requiredApprovals",
  "approver",
  "approvalLifetime",
  "revocation",
  "stalenessLimit",
] as const;

const namesQuotas = (options: TenantOptions) => QUOTAS.some((quota) => options[quota] !== undefined);
const namesPolicy = (options: TenantOptions) => POLICY.some((field) => options[field] !== undefined);

/** What decides about approval and strength is for approvers. */
function rolesFor(options: TenantOptions): RoleName[] {
  const policy = namesPolicy(options);
  return [
    ...(policy ? ["approver" as const] : []),
    ...(policy && options.displayName === undefined ? [] : ["admin" as const]),
  ];
}

function tenantOf(options: TenantOptions): MessageInitShape<typeof TenantSchema> {
  const policy = {
    ...(options.requiredApprovals === undefined ? {} : { requiredApprovals: options.requiredApprovals }),
    ...(options.approver === undefined ? {} : { approvers: options.approver }),
    ...(options.approvalLifetime === undefined ? {} : { approvalLifetime: options.approvalLifetime }),
    ...(options.revocation === undefined
      ? {}
      : { revocation: options.revocation === "end" ? RevocationPolicy.END : RevocationPolicy.REMOVE }),
    ...(options.stalenessLimit === undefined ? {} : { stalenessLimit: options.stalenessLimit }),
  };
  const { maxVectors, maxVersions, maxPersonas, maxStoredBytes } = options;
  const quotas = {
    ...(maxVectors === undefined ? {} : { maxVectors }),
    ...(maxVersions === undefined ? {} : { maxVersions }),
    ...(maxPersonas === undefined ? {} : { maxPersonas }),
    ...(maxStoredBytes === undefined ? {} : { maxStoredBytes: BigInt(maxStoredBytes) }),
  };
  return {
    ...(options.displayName === undefined ? {} : { displayName: options.displayName }),
    ...(options.context === undefined
      ? {}
      : { context: options.context === "internal" ? DeploymentContext.INTERNAL : DeploymentContext.CUSTOMER_FACING }),
    ...(options.alphaCap === undefined ? {} : { alphaCapHundredths: options.alphaCap }),
    ...(Object.keys(policy).length === 0 ? {} : { policy }),
    ...(Object.keys(quotas).length === 0 ? {} : { quotas }),
  };
}

/** Paths of the fields that the options name: a field can also be set to what counts as unset. */
function pathsOf(options: TenantOptions): string[] {
  const paths: Readonly<Partial<Record<keyof TenantOptions, string>>> = {
    displayName: "display_name",
    context: "context",
    alphaCap: "alpha_cap_hundredths",
    requiredApprovals: "policy.required_approvals",
    approver: "policy.approvers",
    approvalLifetime: "policy.approval_lifetime",
    revocation: "policy.revocation",
    stalenessLimit: "policy.staleness_limit",
    maxVectors: "quotas.max_vectors",
    maxVersions: "quotas.max_versions",
    maxPersonas: "quotas.max_personas",
    maxStoredBytes: "quotas.max_stored_bytes",
  };
  return Object.entries(paths).flatMap(([option, path]) =>
    options[option as keyof TenantOptions] === undefined ? [] : [path],
  );
}

async function createTenant(session: RegistrySession<TenantOptions>, id = ""): Promise<void> {
  const { client, options, call } = session;
  const request = { tenantId: tenantId(id), tenant: tenantOf(options), ...changeFields(options) };
  const response = await client.tenants.createTenant(request, call);
  const name = `tenants/${request.tenantId}`;
  await finishChange(session, { name, response, lines: [`created ${name}`] });
}

async function updateTenant(session: RegistrySession<TenantOptions>, id = ""): Promise<void> {
  const { client, options, call } = session;
  const paths = pathsOf(options);
  if (paths.length === 0) throw new UsageError("OPTIONS_CONFLICT", "nothing to change: give at least one option");
  if (namesQuotas(options) && namesPolicy(options)) {
    throw new UsageError(
      "OPTIONS_CONFLICT",
      "quotas are the platform's to change, the policy the tenant's: one at a time",
    );
  }
  const name = `tenants/${tenantId(id)}`;
  const { etag = "", ...change } = changeFields(options);
  const response = await client.tenants.updateTenant(
    { tenant: { ...tenantOf(options), name, etag }, updateMask: { paths }, ...change },
    call,
  );
  await finishChange(session, { name, response, lines: [`updated ${name}`] });
}

async function showTenant(session: RegistrySession<object>, id?: string): Promise<void> {
  const name = id === undefined ? session.parent : `tenants/${tenantId(id)}`;
  const response = await session.client.tenants.getTenant({ name }, session.call);
  await printAnswer(session.context, response, response.tenant === undefined ? [] : tenantLines(response.tenant));
}

function tenantLines(tenant: Tenant): string[] {
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
    ["max vectors", String(quotas?.maxVectors ?? "")],
    ["max versions", String(quotas?.maxVersions ?? "")],
    ["max personas", String(quotas?.maxPersonas ?? "")],
    ["max stored bytes", String(quotas?.maxStoredBytes ?? "")],
    ["active persona", shortName(activePersona?.revision ?? "")],
    ["active since", time(activePersona?.activateTime)],
    ["unreviewed break-glass", String(tenant.unreviewedBreakGlass)],
    ["state", enumName(ResourceStateSchema, tenant.state)],
    ["created", time(tenant.createTime)],
    ["updated", time(tenant.updateTime)],
    ["etag", tenant.etag],
  ]);
}
