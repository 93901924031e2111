import type { ServiceError } from "@persona-mesh/service";
import type { LoadedPersona } from "./loaded-persona.ts";
import type { ServingPolicy } from "./serving-policy.ts";

/** What may be done with a persona that is worn already. */
export type Standing =
  /** It goes on. `capHundredths` is what its effective alpha may be now; infinite where nothing lowers it. */
  | { readonly kind: "served"; readonly capHundredths: number }
  /** It must act no more. `REMOVE`: streams go on without it; `END`: they end with the error, as every new call does. */
  | { readonly kind: "withdrawn"; readonly policy: "REMOVE" | "END"; readonly error: ServiceError };

/** Of personas that nobody governs from outside. */
export const ALWAYS_SERVED: Standing = { kind: "served", capHundredths: Number.POSITIVE_INFINITY };

/** Where the worker's personas come from. What it says holds until the event loop's next turn. */
export interface PersonaCatalog {
  /**
   * The tenant's persona of this resource name; undefined for unknown names and for other tenants' alike.
   *
   * @throws ServiceError VERSION_REVOKED, PERSONAS_STALE, PERSONA_NOT_SERVABLE where there is one and it cannot be worn
   */
  find(tenant: string, name: string): LoadedPersona | undefined;
  /**
   * What calls of the tenant wear that name none; undefined for nothing.
   *
   * @throws ServiceError as {@link find}: a call is never unsteered because its persona is in trouble
   */
  active(tenant: string): LoadedPersona | undefined;
  /** What a stream that follows the active persona wears next; `worn` itself while the active one cannot be worn. */
  followed(tenant: string, worn: LoadedPersona | undefined): LoadedPersona | undefined;
  /** By name: what can be worn now. */
  list(tenant: string): LoadedPersona[];
  /** What the tenant may take of this worker, and how its replies are guarded; defaults for a tenant nobody knows. */
  serving(tenant: string): ServingPolicy;
  /** Asked before every step of a stream. */
  standing(persona: LoadedPersona): Standing;
}
