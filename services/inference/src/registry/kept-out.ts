import type { Problem } from "./problem.ts";
import type { RegistryCatalog } from "./registry-catalog.ts";

/** What the registry has released and this worker cannot serve, by tenant. */
export class KeptOut {
  readonly #catalog: RegistryCatalog;
  readonly #byTenant = new Map<string, readonly Problem[]>();
  #problems: readonly Problem[] = [];

  constructor(catalog: RegistryCatalog) {
    this.#catalog = catalog;
  }

  get problems(): readonly Problem[] {
    return this.#problems;
  }

  /** Look again at these tenants alone: others cannot have changed. */
  look(tenants: Iterable<string>): void {
    for (const tenant of tenants) {
      const problems = this.#problemsOf(tenant);
      if (problems.length === 0) this.#byTenant.delete(tenant);
      else this.#byTenant.set(tenant, problems);
    }
    this.#problems = [...this.#byTenant.values()].flat();
  }

  /** What is revoked should not be served, and its bytes are nowhere to be had: that is no problem. */
  #problemsOf(tenant: string): Problem[] {
    const served = this.#catalog.tenants.get(tenant);
    if (served === undefined) return [];
    const slots = [...served.personas.values(), ...(served.active === undefined ? [] : [served.active])];
    const problems = slots.flatMap((slot) => {
      if (slot.kind === "loaded") return [];
      return slot.versionDigests.some((digest) => this.#catalog.isRevoked({ tenant, digest })) ? [] : [slot.problem];
    });
    // The active persona is mostly a released one too.
    return [...new Map(problems.map((problem) => [problem.resource, problem])).values()];
  }
}
