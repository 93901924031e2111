import { create } from "@bufbuild/protobuf";
import { type Change, ChangeSchema, type PersonaRevision, type TenantState } from "@persona-mesh/protocol/registry";

/** One tenant, as the registry last said. */
export interface TenantPicture {
  /** Undefined until the registry has said it: nothing of such a tenant is served. */
  readonly state: TenantState | undefined;
  /** By the persona's name: what calls get by it. */
  readonly released: ReadonlyMap<string, PersonaRevision>;
}

/** What a worker should serve, as of one revision. Immutable. */
export interface Picture {
  readonly revision: bigint;
  readonly tenants: ReadonlyMap<string, TenantPicture>;
}

/** What came from the registry, to take effect as one: everything there is, or all changes of one revision. */
export interface Update {
  readonly kind: "snapshot" | "changes";
  readonly revision: bigint;
  readonly changes: readonly Change[];
}

/** The picture after an update, and the tenants that it may have changed. Revocations are not part of it. */
export function updated(
  before: Picture | undefined,
  { kind, revision, changes }: Update,
): { readonly picture: Picture; readonly touched: ReadonlySet<string> } {
  const tenants = new Map(kind === "snapshot" ? [] : before?.tenants);
  const touched = new Set<string>(kind === "snapshot" ? before?.tenants.keys() : []);
  for (const { tenant, state } of changes) {
    if (state.case !== "tenantState" && state.case !== "personaState") continue;
    touched.add(tenant);
    const known = tenants.get(tenant) ?? { state: undefined, released: new Map() };
    tenants.set(
      tenant,
      state.case === "tenantState" ? { ...known, state: state.value } : withPersona(known, state.value),
    );
  }
  return { picture: { revision, tenants }, touched };
}

function withPersona(
  known: TenantPicture,
  { name, released }: { readonly name: string; readonly released?: PersonaRevision | undefined },
): TenantPicture {
  const personas = new Map(known.released);
  if (released === undefined) personas.delete(name);
  else personas.set(name, released);
  return { ...known, released: personas };
}

/** The versions that an update says are revoked. */
export function revocationsOf({ changes }: Update): RevokedVersion[] {
  return changes.flatMap(({ tenant, state }) =>
    state.case === "versionRevoked" ? [{ tenant, digest: state.value.digest }] : [],
  );
}

/** A version that is never served again. */
export interface RevokedVersion {
  readonly tenant: string;
  readonly digest: string;
}

/**
 * The changes of the snapshot that gives this picture.
 *
 * @param make - called with the state that a change brings, and a function that makes the change
 */
export function changesOf<T>({ tenants }: Picture, make: (state: object, change: () => Change) => T): T[] {
  return [...tenants].flatMap(([tenant, { state, released }]) => {
    const changes = [...released].map(([name, revision]) =>
      make(revision, () =>
        create(ChangeSchema, { tenant, state: { case: "personaState", value: { name, released: revision } } }),
      ),
    );
    if (state === undefined) return changes;
    const change = () => create(ChangeSchema, { tenant, state: { case: "tenantState", value: state } });
    return [...changes, make(state, change)];
  });
}

/** Every revision that somebody may wear: released ones and active ones. */
export function revisionsOf({ state, released }: TenantPicture): PersonaRevision[] {
  if (state === undefined || state.deleted) return [];
  return [...(state.active === undefined ? [] : [state.active]), ...released.values()];
}
