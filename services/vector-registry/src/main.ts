import { runService } from "@persona-mesh/service";
import { REGISTRY_OPTIONS } from "./options.ts";
import { startRegistry } from "./start-registry.ts";

await runService({
  name: "vector-registry",
  description: "versions vectors and personas, governs who may put them into production, and tells workers",
  options: REGISTRY_OPTIONS,
  // What the command line reads: a shell may have both.
  foreignEnvironment: ["PERSONA_ADDRESS", "PERSONA_REGISTRY", "PERSONA_TOKEN", "PERSONA_TENANT"],
  start: startRegistry,
});
