import type { PersonaService } from "@persona-mesh/protocol/registry";
import type { ServiceImplementation } from "@persona-mesh/service";
import type { Registry } from "../registry.ts";
import { activatePersona, deactivatePersona } from "./activate-persona.ts";
import { createPersona } from "./create-persona.ts";
import { deletePersona, undeletePersona } from "./delete-persona.ts";
import { diffPersonaRevisions } from "./diff-revisions.ts";
import { listActivations } from "./list-activations.ts";
import { getPersona, getPersonaRevision, listPersonaRevisions, listPersonas } from "./read-personas.ts";
import { updatePersona } from "./update-persona.ts";

/** Personas, their revisions, and which one is active. */
export function personaService(registry: Registry): ServiceImplementation<typeof PersonaService> {
  return {
    createPersona: (request, context) => createPersona(registry, request, context),
    getPersona: (request, context) => getPersona(registry, request, context),
    listPersonas: (request, context) => listPersonas(registry, request, context),
    updatePersona: (request, context) => updatePersona(registry, request, context),
    deletePersona: (request, context) => deletePersona(registry, request, context),
    undeletePersona: (request, context) => undeletePersona(registry, request, context),
    getPersonaRevision: (request, context) => getPersonaRevision(registry, request, context),
    listPersonaRevisions: (request, context) => listPersonaRevisions(registry, request, context),
    diffPersonaRevisions: (request, context) => diffPersonaRevisions(registry, request, context),
    activatePersona: (request, context) => activatePersona(registry, request, context),
    deactivatePersona: (request, context) => deactivatePersona(registry, request, context),
    listActivations: (request, context) => listActivations(registry, request, context),
  };
}
