import { setImmediate } from "node:timers/promises";
import { type PersonaRevision, RevocationPolicy, type TenantState } from "@persona-mesh/protocol/registry";
import type { LoadedPersona } from "../personas/loaded-persona.ts";
import { type LoadingModel, loadRevision } from "./load-revision.ts";
import type { TenantPicture } from "./picture.ts";
import { ProblemError } from "./problem.ts";
import type { ServedPersona, ServedTenant } from "./registry-catalog.ts";
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
  readonly inUse: ReadonlySet<string>;
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
    const known = knownOf(before);
    const load = async (name: string, revision: PersonaRevision): Promise<ServedPersona> => {
      const key = keyOf(name, revision);
      const loaded = known.get(key) ?? (await this.#load(tenant, name, revision));
      known.set(key, loaded);
      keys.set(loaded, key);
      return loaded;
    };
    const personas = new Map<string, ServedPersona>();
    for (const [name, revision] of released) personas.set(name, await load(name, revision));
    const active = state.active === undefined ? undefined : await load(personaOf(state.active), state.active);
    return { ...policy, isDeleted: false, active, personas };
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

/** Of which definition a served persona came. */
const keys = new WeakMap<ServedPersona, string>();

function knownOf(before: ServedTenant | undefined): Map<string, ServedPersona> {
  const all =
    before === undefined ? [] : [...before.personas.values(), ...(before.active === undefined ? [] : [before.active])];
  // What was kept out is tried again: the bytes may have come.
  const loaded = all.filter(({ kind }) => kind === "loaded");
  return new Map(loaded.flatMap((served) => (keys.has(served) ? [[keys.get(served) as string, served]] : [])));
}

/** Everything that decides what is loaded: a digest alone would be the registry's word for it. */
function keyOf(
  name: string,
  { digest, modelChecksum, terms, mode, positions, policy, composition }: PersonaRevision,
): string {
  const written = terms.map((term) => [term.version, term.digest, term.alphaHundredths, term.layers]);
  const composed = [composition?.outcome, composition?.factor, composition?.capHundredths];
  return JSON.stringify([name, digest, modelChecksum, written, mode, positions, policy, composed]);
}

/** The persona's name from that of its revision: "tenants/{tenant}/personas/{persona}/revisions/{number}". */
function personaOf({ name }: PersonaRevision): string {
  return name.split("/").slice(0, 4).join("/");
}

function policyOf({ capHundredths, revocation, stalenessLimit }: TenantState) {
  const limit =
    stalenessLimit === undefined
      ? DEFAULT_STALENESS
      : Number(stalenessLimit.seconds) * 1000 + stalenessLimit.nanos / 1_000_000;
  return {
    capHundredths,
    revocation: revocation === RevocationPolicy.END ? ("END" as const) : ("REMOVE" as const),
    stalenessLimitMs: limit,
  };
}
