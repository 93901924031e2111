import { type DescMethod, type DescService, getOption, hasOption } from "@bufbuild/protobuf";
import { requires } from "@persona-mesh/protocol";
import { ServiceError } from "../errors/service-error.ts";
import { type Caller, ROLES, type RoleName } from "./caller.ts";

/** Who may call a method. */
export type Access =
  /** Anyone, without a token: health, and reflection where it is switched on. */
  | { readonly kind: "public"; readonly refuse?: RefuseMessage }
  /** Callers with one of these roles; an empty set denies everyone. */
  | {
      readonly kind: "roles";
      readonly anyOf: ReadonlySet<RoleName>;
      /** Where not empty, the role `service` counts only for these, and only when a certificate proves the name. */
      readonly services: ReadonlySet<string>;
      readonly refuse?: undefined;
    };

/** Looks at a message of a public method before its handler does: what anyone may send needs bounds of its own. */
export type RefuseMessage = (message: unknown) => ServiceError | undefined;

/** What the proto declares for every method of a service, by full path. A method that declares nothing denies everyone. */
export function declaredAccess(service: DescService): Map<string, Access> {
  return new Map(service.methods.map((method) => [methodPath(method), requirementOf(method)]));
}

/** @throws ServiceError PERMISSION_DENIED */
export function authorize(caller: Caller, access: Access | undefined, path: string): void {
  if (access?.kind === "public") return;
  for (const role of access?.anyOf ?? []) {
    if (caller.roles.has(role) && (role !== "service" || isAmong(access?.services, caller.service))) return;
  }
  const held = [...caller.roles].join(", ") || "none";
  throw new ServiceError("PERMISSION_DENIED", `${path} is for ${accepted(access)}; the caller's roles: ${held}`, {
    metadata: { method: path },
  });
}

export function methodPath(method: DescMethod): string {
  return `/${method.parent.typeName}/${method.name}`;
}

function requirementOf(method: DescMethod): Extract<Access, { kind: "roles" }> {
  const declared = hasOption(method, requires) ? getOption(method, requires) : undefined;
  return {
    kind: "roles",
    anyOf: new Set((Object.keys(ROLES) as RoleName[]).filter((name) => declared?.anyOf.includes(ROLES[name]))),
    services: new Set(declared?.services),
  };
}

function isAmong(services: ReadonlySet<string> | undefined, service: string | undefined): boolean {
  return services === undefined || services.size === 0 || (service !== undefined && services.has(service));
}

/** Who would have been let in, for people. */
function accepted(access: Extract<Access, { kind: "roles" }> | undefined): string {
  const names = [...(access?.anyOf ?? [])].map((role) =>
    role === "service" && access !== undefined && access.services.size > 0
      ? `the service ${[...access.services].join(" or ")} with its certificate`
      : role,
  );
  return names.join(", ") || "nobody";
}
