import type { ModelService } from "@persona-mesh/protocol/registry";
import type { ServiceImplementation } from "@persona-mesh/service";
import type { Registry } from "../registry.ts";
import { deleteModel, undeleteModel, updateModel } from "./change-model.ts";
import { createModel } from "./create-model.ts";
import { getModel, listModels } from "./read-models.ts";

/** The models that vectors may belong to. */
export function modelService(registry: Registry): ServiceImplementation<typeof ModelService> {
  return {
    createModel: (request, context) => createModel(registry, request, context),
    getModel: (request, context) => getModel(registry, request, context),
    listModels: (request, context) => listModels(registry, request, context),
    updateModel: (request, context) => updateModel(registry, request, context),
    deleteModel: (request, context) => deleteModel(registry, request, context),
    undeleteModel: (request, context) => undeleteModel(registry, request, context),
  };
}
