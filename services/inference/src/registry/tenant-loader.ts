import { setImmediate } from "node:timers/promises";
import { type PersonaRevision, RevocationPolicy, type TenantState } from "@persona-mesh/protocol/registry";
import type { LoadedPersona } from "../personas/loaded-persona.ts";
import { type LoadingModel, loadRevision } from "./load-revision.ts";
import { revisionsOf, type TenantPicture } from "./picture.ts";
import { ProblemError } from "./problem.ts";
import type { ServedPersona, ServedTenant } from "./registry-catalog.ts";
import { servingOf } from "./serving-of.ts";
import type { NeededVersion, VersionContents } from "./version-contents.ts";

/** Composing holds up every stream: after so long they get their turn. Milliseconds. */
const TURN = 4;

/** By contract 24 hours where a tenant says nothing. */
const DEFAULT_STALENESS = 24 * 3_600_000;

/** What loading needs beside the revision itself. */
export interface Loading {
  readonly model: LoadingModel;
  readonly contents: VersionContents;
  readonly mayFetch: boolean;
  /** Digests that the disk must not lose. */
  readonly inUse: () => ReadonlySet<string>;
  readonly isRevoked: (version: NeededVersion) => boolean;
}

/** Loads revisions into personas, and each revision once for as long as it is served. */
export class TenantLoader {
  readonly #loading: Loading;
  #turnBegan = performance.now();

  constructor(loading: Loading) {
    this.#loading = loading;
  }

  /**
   * Everything of a tenant, composed. Does not leave the event loop's turn where all versions are in memory and there is
   * little to compose.
   *
   * @param before - whose personas are taken over where their revisions are the same
   * @returns undefined for a tenant that the registry has said nothing of
   */
  async load(
    tenant: string,
    picture: TenantPicture,
    before: ServedTenant | undefined,
  ): Promise<ServedTenant | undefined> {
    const { state, released } = picture;
    if (state === undefined) return undefined;
    const policy = policyOf(state);
    if (state.deleted) return { ...policy, isDeleted: true, active: undefined, personas: new Map() };
    const personas = isWhollyOf(before, released)
      ? before.personas
      : await this.#loadReleased(tenant, released, before);
    if (state.active === undefined) return { ...policy, isDeleted: false, active: undefined, personas };
    const name = personaOf(state.active);
    const known = [personas.get(name), before?.active, before?.personas.get(name)];
    const active = await this.#reuseOrLoad(tenant, name, state.active, known);
    return { ...policy, isDeleted: false, active, personas };
  }

  /** Versions of the revisions that {@link load} would compose. */
  needed(tenant: string, picture: TenantPicture, before: ServedTenant | undefined): NeededVersion[] {
    const { state } = picture;
    const isWhole = isWhollyOf(before, picture.released);
    return revisionsOf(isWhole ? { state, released: new Map() } : picture)
      .filter((revision) => {
        const name = personaOf(revision);
        return this.#same(name, revision, [before?.personas.get(name), before?.active]) === undefined;
      })
      .flatMap(({ terms }) => terms.map(({ digest }) => ({ tenant, digest })));
  }

  async #loadReleased(
    tenant: string,
    released: TenantPicture["released"],
    before: ServedTenant | undefined,
  ): Promise<ReadonlyMap<string, ServedPersona>> {
    const personas = new Map<string, ServedPersona>();
    for (const [name, revision] of released) {
      personas.set(name, await this.#reuseOrLoad(tenant, name, revision, [before?.personas.get(name), before?.active]));
    }
    if ([...personas.values()].every(({ kind }) => kind === "loaded")) origins.set(personas, released);
    return personas;
  }

  async #reuseOrLoad(
    tenant: string,
    name: string,
    revision: PersonaRevision,
    known: readonly (ServedPersona | undefined)[],
  ): Promise<ServedPersona> {
    const same = this.#same(name, revision, known);
    if (same !== undefined) return same;
    const loaded = await this.#load(tenant, name, revision);
    definitions.set(loaded, { name, revision, by: this });
    return loaded;
  }

  /** Which of what is known was made of the same definition. What was kept out earlier is not: its bytes may have come. */
  #same(
    name: string,
    revision: PersonaRevision,
    known: readonly (ServedPersona | undefined)[],
  ): ServedPersona | undefined {
    return known.find((each) => {
      const definition = each === undefined ? undefined : definitions.get(each);
      if (definition === undefined || definition.name !== name) return false;
      if (each?.kind === "kept-out" && definition.by !== this) return false;
      return definition.revision === revision || keyOf(definition.revision) === keyOf(revision);
    });
  }

  async #load(tenant: string, name: string, revision: PersonaRevision): Promise<ServedPersona> {
    const versionDigests = revision.terms.map(({ digest }) => digest);
    try {
      return { kind: "loaded", persona: await this.#compose(tenant, name, revision), versionDigests };
    } catch (error) {
      if (!(error instanceof ProblemError)) throw error;
      const { reason, message } = error;
      return { kind: "kept-out", problem: { tenant, resource: revision.name, reason, message }, versionDigests };
    }
  }

  async #compose(tenant: string, name: string, revision: PersonaRevision): Promise<LoadedPersona> {
    const { model, contents, mayFetch, inUse, isRevoked } = this.#loading;
    const revoked = revision.terms.find(({ digest }) => isRevoked({ tenant, digest }));
    if (revoked !== undefined) throw new ProblemError("VERSION_REVOKED", `${revoked.version} is revoked`);
    const versions = new Map<string, ReturnType<VersionContents["peek"]>>();
    for (const { digest } of revision.terms) {
      versions.set(digest, contents.peek(digest) ?? (await contents.load({ tenant, digest }, mayFetch, inUse)));
    }
    if (performance.now() - this.#turnBegan > TURN) {
      await setImmediate();
      this.#turnBegan = performance.now();
    }
    return loadRevision(revision, name, model, (digest) => {
      const version = versions.get(digest);
      if (version === undefined) throw new Error(`${digest} was not loaded`);
      return version;
    });
  }
}

/** What served personas were made of, and by which loader. */
const definitions = new WeakMap<
  ServedPersona,
  { readonly name: string; readonly revision: PersonaRevision; readonly by: TenantLoader }
>();

/** Of which released revisions personas were loaded, where all of them could be. */
const origins = new WeakMap<ServedTenant["personas"], TenantPicture["released"]>();

/** Nothing but the tenant's policy or active persona has changed: the commonest change, and there may be a thousand personas. */
function isWhollyOf(before: ServedTenant | undefined, released: TenantPicture["released"]): before is ServedTenant {
  return before !== undefined && origins.get(before.personas) === released;
}

/** Everything that decides what is loaded: a digest alone would be the registry's word for it. */
function keyOf({ name, digest, modelChecksum, terms, mode, positions, policy, composition }: PersonaRevision): string {
  const written = terms.map((term) => [term.version, term.digest, term.alphaHundredths, term.layers]);
  const composed = [composition?.outcome, composition?.factor, composition?.capHundredths];
  return JSON.stringify([name, digest, modelChecksum, written, mode, positions, policy, composed]);
}

/** The persona's name from that of its revision: "tenants/{tenant}/personas/{persona}/revisions/{number}". */
function personaOf({ name }: PersonaRevision): string {
  return name.split("/").slice(0, 4).join("/");
}

function policyOf(state: TenantState) {
  const { capHundredths, revocation, stalenessLimit } = state;
  const limit =
    stalenessLimit === undefined
      ? DEFAULT_STALENESS
      : Number(stalenessLimit.seconds) * 1000 + stalenessLimit.nanos / 1_000_000;
  return {
    capHundredths,
    revocation: revocation === RevocationPolicy.END ? ("END" as const) : ("REMOVE" as const),
    stalenessLimitMs: limit,
    serving: servingOf(state),
  };
}
