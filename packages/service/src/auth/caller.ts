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

/** Who makes a call, as its verified token says. */
export interface Caller {
  /** The token's `sub`: a person or a service, for audit and logs. */
  readonly subject: string;
  /** The one tenant that the caller acts in. */
  readonly tenant: string;
  readonly roles: ReadonlySet<RoleName>;
}

/** A resource id as in `tenants/{id}`: a letter, then letters, digits and dashes, not ending in a dash; at most 63. */
export const RESOURCE_ID = /^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$/;

export function isRoleName(name: unknown): name is RoleName {
  return typeof name === "string" && Object.hasOwn(ROLES, name);
}
