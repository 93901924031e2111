import { create, type MessageInitShape } from "@bufbuild/protobuf";
import {
  type ChangeSchema,
  DeploymentContext,
  type PersonaRevision,
  PersonaStateSchema,
  RevocationPolicy,
  TenantStateSchema,
} from "@persona-mesh/protocol/registry";
import { capOf } from "@persona-mesh/steering";
import type { Kysely, Selectable } from "kysely";
import type { EmittedChange } from "../database/mutation.ts";
import type { Database, TenantsTable } from "../database/schema.ts";
import { readRevision } from "../personas/read-revision.ts";
import { PERSONA_NAME } from "../resource-name.ts";
import { guardMessage } from "../tenants/guard-columns.ts";
import { servingMessage } from "../tenants/serving-columns.ts";

/** A tenant as workers need it, for all of them: each leaves out an active persona of another model. */
export async function tenantState(db: Kysely<Database>, row: Selectable<TenantsTable>): Promise<EmittedChange> {
  const { tenant, active_persona: persona, active_number: number } = row;
  const active = persona === null || number === null ? undefined : await readRevision(db, { tenant, persona, number });
  return stateOf(row, active);
}

/** The same where the active revision is at hand. */
export function stateOf(row: Selectable<TenantsTable>, active: PersonaRevision | undefined): EmittedChange {
  const cap = capOf(row.context, row.alpha_cap_hundredths ?? undefined);
  return { modelChecksum: null, change: tenantChange(row, cap, active) };
}

/** The change that says how a tenant is. */
export function tenantChange(
  row: Selectable<TenantsTable>,
  capHundredths: number,
  active: PersonaRevision | undefined,
): MessageInitShape<typeof ChangeSchema> {
  return {
    tenant: row.tenant,
    state: {
      case: "tenantState",
      value: create(TenantStateSchema, {
        context: row.context === "INTERNAL" ? DeploymentContext.INTERNAL : DeploymentContext.CUSTOMER_FACING,
        capHundredths,
        revocation: row.revocation === "END" ? RevocationPolicy.END : RevocationPolicy.REMOVE,
        stalenessLimit: { seconds: row.staleness_limit_seconds },
        ...(active === undefined ? {} : { active }),
        deleted: row.deleted_at !== null,
        guard: guardMessage(row),
        serving: servingMessage(row),
      }),
    },
  };
}

/**
 * What workers serve under a persona's name: the released revision for those of its model, and nothing for those of
 * models that the persona was of before.
 */
export async function personaStates(
  db: Kysely<Database>,
  { tenant, persona }: { readonly tenant: string; readonly persona: string },
): Promise<EmittedChange[]> {
  const row = await db
    .selectFrom("personas")
    .select(["released", "deleted_at"])
    .where("tenant", "=", tenant)
    .where("persona", "=", persona)
    .executeTakeFirstOrThrow();
  const models = await db
    .selectFrom("persona_revisions")
    .select("model_checksum")
    .distinct()
    .where("tenant", "=", tenant)
    .where("persona", "=", persona)
    .orderBy("model_checksum")
    .execute();
  const released =
    row.released === null || row.deleted_at !== null
      ? undefined
      : await readRevision(db, { tenant, persona, number: row.released });
  return models.map(({ model_checksum: modelChecksum }) => ({
    modelChecksum,
    change: personaChange(tenant, persona, released?.modelChecksum === modelChecksum ? released : undefined),
  }));
}

/** The change that says what a persona's name stands for; undefined for nothing. */
export function personaChange(
  tenant: string,
  persona: string,
  released: PersonaRevision | undefined,
): MessageInitShape<typeof ChangeSchema> {
  const name = PERSONA_NAME.format({ tenant, persona });
  return {
    tenant,
    state: {
      case: "personaState",
      value: create(PersonaStateSchema, { name, ...(released === undefined ? {} : { released }) }),
    },
  };
}
