import type { TenantService } from "@persona-mesh/protocol/registry";
import type { ServiceImplementation } from "@persona-mesh/service";
import type { Registry } from "../registry.ts";
import { createTenant } from "./create-tenant.ts";
import { deleteTenant, undeleteTenant } from "./delete-tenant.ts";
import { getTenant, listTenants } from "./read-tenants.ts";
import { updateTenant } from "./update-tenant.ts";

/** The unit of isolation, policy, quota and audit. */
export function tenantService(registry: Registry): ServiceImplementation<typeof TenantService> {
  return {
    createTenant: (request, context) => createTenant(registry, request, context),
    getTenant: (request, context) => getTenant(registry, request, context),
    listTenants: (request, context) => listTenants(registry, request, context),
    updateTenant: (request, context) => updateTenant(registry, request, context),
    deleteTenant: (request, context) => deleteTenant(registry, request, context),
    undeleteTenant: (request, context) => undeleteTenant(registry, request, context),
  };
}
