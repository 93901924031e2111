import { ModelService } from "@persona-mesh/protocol/registry";
import { ClientError, createClient, type Logger } from "@persona-mesh/service";
import { REGISTRY_SERVICE, type RegistryTarget } from "./registry-connection.ts";

/** The served model, as the registry knows models. */
export interface ModelFacts {
  readonly modelChecksum: string;
  readonly architecture: string;
  readonly layers: number;
  readonly hiddenSize: number;
  readonly vocabularySize: number;
  readonly tokenizerDigest: string;
}

const TIMEOUT = 10_000;

/**
 * Make the served model known to the registry, so that vectors of it can be published. One that is known already is as good;
 * anything else is only a warning: the worker serves all the same.
 *
 * @returns whether the registry knows it now
 */
export async function registerModel(target: RegistryTarget, facts: ModelFacts, log: Logger): Promise<boolean> {
  const { address, tls, trustDomain } = target;
  using client = createClient(ModelService, address, tls, {
    serverIdentity: { service: REGISTRY_SERVICE, trustDomain },
  });
  const modelId = modelIdOf(facts);
  try {
    await client.createModel({ modelId, model: facts }, { timeoutMs: TIMEOUT });
    log.info({ modelId, modelChecksum: facts.modelChecksum }, "model registered");
    return true;
  } catch (error) {
    if (error instanceof ClientError && error.reason === "RESOURCE_EXISTS") return true;
    log.warn({ err: error, modelId }, "the model could not be registered; trying again at the next connection");
    return false;
  }
}

/** A resource id that is the same for the same weights. */
function modelIdOf({ architecture, modelChecksum }: ModelFacts): string {
  const kind = architecture
    .toLowerCase()
    .replaceAll(/[^a-z0-9]+/g, "-")
    .replaceAll(/^[^a-z]+|-+$/g, "")
    .slice(0, 40);
  return `${kind === "" ? "model" : kind}-${modelChecksum.slice(0, 12)}`;
}
