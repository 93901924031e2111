import type { InferenceService, ListLoadedPersonasRequest } from "@persona-mesh/protocol";
import { type Caller, ServiceError, type ServiceImplementation } from "@persona-mesh/service";
import { gainWithin } from "../engine/worn-persona.ts";
import { PROVIDER } from "../precision-support.ts";
import type { Worker } from "../worker.ts";
import { captureActivations } from "./capture.ts";
import { generate } from "./generate.ts";
import { personaProof } from "./persona-proof.ts";
import { score } from "./score.ts";

const DEFAULT_PAGE_SIZE = 100;
const MAX_PAGE_SIZE = 1000;

/** The worker's calls. */
export function inferenceService(worker: Worker): ServiceImplementation<typeof InferenceService> {
  return {
    generate: (request, context) => generate(worker, request, context),
    score: (request, context) => score(worker, request, context),
    captureActivations: (request, context) => captureActivations(worker, request, context),
    getModel: async () => {
      const { spec, modelChecksum, graphDigest, tokenizerDigest, precision } = worker.model.manifest;
      return {
        modelChecksum,
        graphDigest,
        tokenizerDigest,
        precision: precision.name,
        architecture: spec.architecture,
        provider: PROVIDER,
        layers: spec.layers,
        hiddenSize: spec.hidden,
        vocabularySize: spec.vocabulary,
        contextTokens: worker.contextTokens,
        slots: worker.engine.figures().slots,
      };
    },
    listLoadedPersonas: async (request, { caller }) => listLoadedPersonas(worker, request, caller),
  };
}

/** Pages in order of the name; the token is the last name of the page before. */
function listLoadedPersonas({ personas, table }: Worker, request: ListLoadedPersonasRequest, { tenant }: Caller) {
  const { pageSize, pageToken } = request;
  if (pageSize > MAX_PAGE_SIZE) {
    throw ServiceError.invalid([{ field: "page_size", description: `${pageSize} is over ${MAX_PAGE_SIZE}` }]);
  }
  const after = personas.list(tenant).filter(({ name }) => name > pageToken);
  const page = after.slice(0, pageSize || DEFAULT_PAGE_SIZE);
  const active = personas.followed(tenant, undefined);
  return {
    personas: page.map((persona) => ({
      proof: personaProof(persona, gainWithin(persona, 1, personas.standing(persona))),
      active: persona === active,
      resident: table.has(persona.rowsId),
    })),
    nextPageToken: page.length < after.length ? (page.at(-1)?.name ?? "") : "",
  };
}
