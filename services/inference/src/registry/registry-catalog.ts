import type { Reason } from "@persona-mesh/service";
import { ServiceError } from "@persona-mesh/service";
import type { LoadedPersona } from "../personas/loaded-persona.ts";
import { ALWAYS_SERVED, type PersonaCatalog, type Standing } from "../personas/persona-catalog.ts";
import { DEFAULT_SERVING, type ServingPolicy } from "../personas/serving-policy.ts";
import type { RevokedVersion } from "./picture.ts";
import type { Problem } from "./problem.ts";

/** A persona as far as it got: composed, or kept out with the reason. */
export type ServedPersona =
  | { readonly kind: "loaded"; readonly persona: LoadedPersona; readonly versionDigests: readonly string[] }
  | { readonly kind: "kept-out"; readonly problem: Problem; readonly versionDigests: readonly string[] };

/** One tenant, as this worker serves it. */
export interface ServedTenant {
  readonly capHundredths: number;
  readonly revocation: "REMOVE" | "END";
  /** Without a word from the registry for longer, its personas are refused. */
  readonly stalenessLimitMs: number;
  readonly serving: ServingPolicy;
  readonly isDeleted: boolean;
  readonly active: ServedPersona | undefined;
  /** By the persona's name. */
  readonly personas: ReadonlyMap<string, ServedPersona>;
}

/** The personas of the registry, as calls find them. Holds no file and no socket. */
export class RegistryCatalog implements PersonaCatalog {
  readonly #age: () => number;
  readonly #tenants = new Map<string, ServedTenant>();
  readonly #revoked = new Map<string, Set<string>>();
  #revocations = 0;
  /** Personas outlive their place here: streams wear them. */
  readonly #tenantOf = new WeakMap<LoadedPersona, string>();

  /** @param age - milliseconds since the registry was heard */
  constructor(age: () => number) {
    this.#age = age;
  }

  /** How many versions are revoked. */
  get revocations(): number {
    return this.#revocations;
  }

  get tenants(): ReadonlyMap<string, ServedTenant> {
    return this.#tenants;
  }

  /** Put a tenant's personas in force; undefined for a tenant that is no more. */
  set(tenant: string, served: ServedTenant | undefined): void {
    if (served === undefined) {
      this.#tenants.delete(tenant);
      return;
    }
    const isSame = this.#tenants.get(tenant)?.personas === served.personas;
    this.#tenants.set(tenant, served);
    for (const slot of [served.active, ...(isSame ? [] : served.personas.values())]) {
      if (slot?.kind === "loaded") this.#tenantOf.set(slot.persona, tenant);
    }
  }

  /** For good: nothing takes it back. */
  revoke(revoked: readonly RevokedVersion[]): void {
    for (const { tenant, digest } of revoked) {
      const digests = this.#revoked.get(tenant) ?? new Set();
      if (!digests.has(digest)) this.#revocations++;
      this.#revoked.set(tenant, digests.add(digest));
    }
  }

  isRevoked({ tenant, digest }: RevokedVersion): boolean {
    return this.#revoked.get(tenant)?.has(digest) === true;
  }

  find(tenant: string, name: string): LoadedPersona | undefined {
    const served = this.#alive(tenant);
    const slot = served?.personas.get(name);
    if (served === undefined || slot === undefined) return undefined;
    return this.#wearable(tenant, served, name, slot);
  }

  active(tenant: string): LoadedPersona | undefined {
    const served = this.#alive(tenant);
    if (served?.active === undefined) return undefined;
    return this.#wearable(tenant, served, "the active persona", served.active);
  }

  followed(tenant: string, worn: LoadedPersona | undefined): LoadedPersona | undefined {
    const served = this.#alive(tenant);
    if (served?.active === undefined) return undefined;
    return this.#isWearable(tenant, served, served.active) ? served.active.persona : worn;
  }

  list(tenant: string): LoadedPersona[] {
    const served = this.#alive(tenant);
    if (served === undefined) return [];
    return [...served.personas.values()]
      .flatMap((slot) => (this.#isWearable(tenant, served, slot) ? [slot.persona] : []))
      .sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  serving(tenant: string): ServingPolicy {
    return this.#tenants.get(tenant)?.serving ?? DEFAULT_SERVING;
  }

  standing(persona: LoadedPersona): Standing {
    const tenant = this.#tenantOf.get(persona);
    // In the request: its caller answers for it.
    if (tenant === undefined) return ALWAYS_SERVED;
    const served = this.#tenants.get(tenant);
    if (served === undefined || served.isDeleted) {
      const error = new ServiceError("PERSONA_NOT_FOUND", `the tenant of ${persona.name} is deleted`);
      return { kind: "withdrawn", policy: served?.revocation ?? "REMOVE", error };
    }
    const digest = this.#revokedOf(tenant, persona.versionDigests);
    if (digest === undefined) return { kind: "served", capHundredths: served.capHundredths };
    return { kind: "withdrawn", policy: served.revocation, error: revokedError(persona.name, digest) };
  }

  #alive(tenant: string): ServedTenant | undefined {
    const served = this.#tenants.get(tenant);
    return served?.isDeleted === true ? undefined : served;
  }

  #isWearable(
    tenant: string,
    served: ServedTenant,
    slot: ServedPersona,
  ): slot is Extract<ServedPersona, { kind: "loaded" }> {
    if (slot.kind !== "loaded" || this.#revokedOf(tenant, slot.versionDigests) !== undefined) return false;
    return this.#age() <= served.stalenessLimitMs;
  }

  /** @throws ServiceError VERSION_REVOKED, PERSONAS_STALE, PERSONA_NOT_SERVABLE */
  #wearable(tenant: string, served: ServedTenant, name: string, slot: ServedPersona): LoadedPersona {
    const digest = this.#revokedOf(tenant, slot.versionDigests);
    if (digest !== undefined) throw revokedError(name, digest);
    const age = this.#age();
    if (age > served.stalenessLimitMs) throw staleError(age, served.stalenessLimitMs);
    if (slot.kind === "loaded") return slot.persona;
    const { reason, message } = slot.problem;
    throw new ServiceError("PERSONA_NOT_SERVABLE" satisfies Reason, `${name} cannot be served here: ${message}`, {
      metadata: { problem: reason },
    });
  }

  #revokedOf(tenant: string, digests: readonly string[]): string | undefined {
    const revoked = this.#revoked.get(tenant);
    return revoked === undefined ? undefined : digests.find((digest) => revoked.has(digest));
  }
}

function revokedError(name: string, digest: string): ServiceError {
  return new ServiceError("VERSION_REVOKED", `${name} has a version that is revoked: ${digest}`, {
    metadata: { digest },
  });
}

function staleError(age: number, limit: number): ServiceError {
  const since = Number.isFinite(age) ? `for ${Math.floor(age / 1000)} s` : "since a time that nobody knows";
  return new ServiceError(
    "PERSONAS_STALE",
    `the registry was not heard ${since}; the tenant's policy allows ${Math.floor(limit / 1000)} s`,
  );
}
