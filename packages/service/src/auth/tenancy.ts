import type { Caller } from "./caller.ts";

/**
 * Let a caller at a resource of a tenant, or throw what the resource's absence gives: unknown and foreign resources must
 * look the same. To look the same in time too, decide this before anything of the resource is read.
 *
 * Callers are let into their own tenant; services of the mesh, proven by certificate, into every one. A token never leaves
 * its tenant, whatever its roles and also when that is the platform's.
 *
 * @param notFound - makes the error of a resource that does not exist
 */
export function requireTenant(caller: Caller, tenant: string, notFound: () => Error): void {
  if (caller.service === undefined && caller.tenant !== tenant) throw notFound();
}
