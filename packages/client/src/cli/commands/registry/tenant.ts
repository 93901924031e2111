import { DeploymentContextSchema, ResourceStateSchema } from "@persona-mesh/protocol/registry";
import type { Command } from "commander";
import { enumName } from "../../enum-name.ts";
import { UsageError } from "../../failure.ts";
import type { CliIo } from "../../io.ts";
import { shortName, time } from "../../registry/cells.ts";
import {
  addChangeOptions,
  type ChangeOptions,
  changeFields,
  finishChange,
  isConfirmed,
} from "../../registry/change.ts";
import { tenantId } from "../../registry/names.ts";
import { examples, printAnswer, printItems } from "../../registry/output.ts";
import { onRegistry, type RegistrySession } from "../../registry/session.ts";
import { tenantLines } from "../../registry/tenant-lines.ts";
import {
  addTenantOptions,
  namesPolicy,
  namesQuotas,
  pathsOf,
  rolesFor,
  type TenantFields,
  tenantOf,
} from "../../registry/tenant-options.ts";

type TenantOptions = TenantFields & ChangeOptions;

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
        [
          "tenant update acme --context internal --reason 'staff only'",
          "tenant update acme --guard-window 64 --guard-cache reprefill",
          "tenant update acme --max-personas 5000 --weight 300",
        ],
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
