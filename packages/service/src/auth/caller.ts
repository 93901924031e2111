import { Role } from "@persona-mesh/protocol";

/** The roles as tokens name them. */
export const ROLES = {
  viewer: Role.VIEWER,
  operator: Role.OPERATOR,
  approver: Role.APPROVER,
  admin: Role.ADMIN,
  service: Role.SERVICE,
} as const satisfies Record<string, Role>;

export type RoleName = keyof typeof ROLES;

/**
 * Who makes a call: a person or a program with a token, or a service of the mesh with a certificate.
 *
 * A token, where there is one, decides; a certificate beside it then only protects the connection.
 */
export interface Caller {
  /** The token's `sub`, or the certificate's SPIFFE id: for audit and logs. */
  readonly subject: string;
  /** The one tenant that the caller acts in; {@link PLATFORM_TENANT} for services. */
  readonly tenant: string;
  readonly roles: ReadonlySet<RoleName>;
  /**
   * Name of the service ("inference", "calibrator"), proven by its certificate. Unset for every token, also for one with
   * the role `service`: such a program acts within its tenant.
   */
  readonly service?: string;
}

/**
 * The tenant of those who run the mesh: services, and the people who create tenants and register models. It owns no
 * vectors, and its admins have no rights in other tenants.
 */
export const PLATFORM_TENANT = "platform";

/** A resource id as in `tenants/{id}`: a letter, then letters, digits and dashes, not ending in a dash; at most 63. */
export const RESOURCE_ID = /^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$/;

export function isRoleName(name: unknown): name is RoleName {
  return typeof name === "string" && Object.hasOwn(ROLES, name);
}
