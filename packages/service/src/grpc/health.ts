import type { Server } from "@grpc/grpc-js";
import { HealthImplementation, service as healthService } from "grpc-health-check";
import type { Access } from "../auth/permissions.ts";
import { ServiceError } from "../errors/service-error.ts";

/** grpc.health.v1 for a fixed set of services, and for the server as a whole under the empty name. */
export interface Health {
  readonly access: ReadonlyMap<string, Access>;
  addTo(server: Server): void;
  set(serving: boolean): void;
}

/** NOT_SERVING until told otherwise. */
export function createHealth(serviceNames: readonly string[]): Health {
  const names = ["", ...serviceNames];
  const known = new Set(names);
  const implementation = new HealthImplementation(
    Object.fromEntries(names.map((name) => [name, "NOT_SERVING" as const])),
  );
  // Health needs no token, and its implementation remembers every name that was ever watched: only ours get through.
  const refuse = (message: unknown) => {
    const name = (message as { service?: unknown }).service;
    return typeof name === "string" && known.has(name)
      ? undefined
      : new ServiceError("UNKNOWN_SERVICE", "this server does not serve a service of that name");
  };
  return {
    access: new Map(
      Object.values(healthService).map(({ path }) => [
        path,
        path.endsWith("/List") ? { kind: "public" } : { kind: "public", refuse },
      ]),
    ),
    addTo: (server) => implementation.addToServer(server as never),
    set: (serving) => {
      for (const name of names) implementation.setStatus(name, serving ? "SERVING" : "NOT_SERVING");
    },
  };
}
