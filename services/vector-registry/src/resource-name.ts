import { RESOURCE_ID, ServiceError } from "@persona-mesh/service";

/** What a variable of a name may be, by its own name; everything else is a resource id. */
const FORMS: Readonly<Record<string, RegExp>> = {
  digest: /^[0-9a-f]{64}$/,
  number: /^[1-9][0-9]{0,8}$/,
  approval: /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/,
  use: /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/,
};

type Variables<Pattern extends string> = Pattern extends `${string}{${infer Name}}${infer Rest}`
  ? Name | Variables<Rest>
  : never;

/** The variables of a resource name. */
export type Ids<Pattern extends string> = { readonly [Name in Variables<Pattern>]: string };

/** Names of one kind, such as `tenants/{tenant}/vectors/{vector}`. */
export interface ResourcePattern<Pattern extends string> {
  readonly pattern: Pattern;
  /** The ids in a name; undefined where it is no such name. */
  match(name: string): Ids<Pattern> | undefined;
  /**
   * The ids in the name that a request gives.
   *
   * @param field - of the request, for the message
   * @throws ServiceError INVALID_ARGUMENT
   */
  parse(name: string, field: string): Ids<Pattern>;
  format(ids: Ids<Pattern>): string;
}

function resourcePattern<const Pattern extends string>(pattern: Pattern): ResourcePattern<Pattern> {
  const parts = pattern.split("/");
  const match = (name: string) => {
    const given = name.split("/");
    if (given.length !== parts.length) return undefined;
    const ids: Record<string, string> = {};
    for (const [index, part] of parts.entries()) {
      const value = given[index] as string;
      const variable = /^\{(.*)\}$/.exec(part)?.[1];
      if (variable === undefined ? part !== value : !(FORMS[variable] ?? RESOURCE_ID).test(value)) return undefined;
      if (variable !== undefined) ids[variable] = value;
    }
    return ids as Ids<Pattern>;
  };
  return {
    pattern,
    match,
    parse(name, field) {
      const ids = match(name);
      if (ids !== undefined) return ids;
      throw ServiceError.invalid([{ field, description: `is no name of the form ${pattern}` }]);
    },
    format: (ids) => pattern.replace(/\{(.*?)\}/g, (_, name: string) => ids[name as keyof typeof ids]),
  };
}

export const TENANT_NAME = resourcePattern("tenants/{tenant}");
export const MODEL_NAME = resourcePattern("models/{model}");
export const VECTOR_NAME = resourcePattern("tenants/{tenant}/vectors/{vector}");
export const VERSION_NAME = resourcePattern("tenants/{tenant}/vectors/{vector}/versions/{digest}");
export const ALIAS_NAME = resourcePattern("tenants/{tenant}/vectors/{vector}/aliases/{alias}");
export const PERSONA_NAME = resourcePattern("tenants/{tenant}/personas/{persona}");
export const REVISION_NAME = resourcePattern("tenants/{tenant}/personas/{persona}/revisions/{number}");
export const APPROVAL_NAME = resourcePattern("tenants/{tenant}/approvals/{approval}");
export const BREAK_GLASS_NAME = resourcePattern("tenants/{tenant}/breakGlassUses/{use}");

/** An id that a create request gives. @throws ServiceError INVALID_ARGUMENT */
export function requireId(id: string, field: string): string {
  if (RESOURCE_ID.test(id)) return id;
  throw ServiceError.invalid([
    { field, description: "must be lower-case letters, digits and dashes, at most 63, beginning with a letter" },
  ]);
}
