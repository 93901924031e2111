import { readFile } from "node:fs/promises";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { InferenceClient } from "@persona-mesh/client";
import { ModelService, type TenantPolicySchema } from "@persona-mesh/protocol/registry";
import { ensureDevAuthority, PLATFORM_TENANT } from "@persona-mesh/service";
import type { WorkerValues } from "../../services/inference/src/options.ts";
import type { RegistryValues } from "../../services/vector-registry/src/options.ts";
import { openTestRegistry, type TestRegistry } from "../../services/vector-registry/src/testing/test-registry.ts";
import { GovernedTenant } from "./governed-tenant.ts";
import { askServedModel, type ServedModel } from "./served-model.ts";
import { openTestWorker, type TestCaller, type TestWorker } from "./test-worker.ts";
import { until } from "./until.ts";

/** A real registry on a real database and a real worker that follows it, with mutual TLS between them. */
export interface GovernedMesh {
  readonly registry: TestRegistry;
  readonly worker: TestWorker;
  readonly served: ServedModel;
  tenant(id: string, policy?: MessageInitShape<typeof TenantPolicySchema>): Promise<GovernedTenant>;
  /** Calls to the worker; an operator where nothing else is said. Closed with the mesh. */
  client(caller: TestCaller): Promise<InferenceClient>;
  close(): Promise<void>;
}

export interface GovernedMeshOptions {
  readonly registry?: Partial<RegistryValues>;
  readonly worker?: Partial<WorkerValues>;
  /** Where the worker finds the registry, of which this is one replica. @default this one */
  readonly address?: (registry: TestRegistry) => string | Promise<string>;
}

/** Name of the worker at the registry. */
export const WORKER = "worker-1";

/** Whoever opens it closes it. */
export async function openGovernedMesh(options: GovernedMeshOptions = {}): Promise<GovernedMesh> {
  await using opened = new AsyncDisposableStack();
  const registry = await openTestRegistry(options.registry);
  opened.defer(registry.close);
  const registryAddress = await (options.address?.(registry) ?? registry.address);
  const worker = await openTestWorker({
    slots: 4,
    ...options.worker,
    devTls: true,
    dataDir: registry.dataDir,
    personasDir: undefined,
    registryAddress,
    workerName: WORKER,
  });
  opened.defer(worker.close);
  await until(() => worker.log().some(({ msg }) => msg === "serving"), "the worker serves");
  const service = opened.use(await workerClient(registry, worker.address, { roles: ["service"] }));
  const served = await askServedModel(service);
  await modelRegistered(registry);
  const resources = opened.move();
  return {
    registry,
    worker,
    served,
    tenant: (id, policy) => GovernedTenant.create(registry, served, id, policy),
    client: async (caller) => resources.use(await workerClient(registry, worker.address, caller)),
    close: () => resources.disposeAsync(),
  };
}

/** A caller of a worker that trusts the registry's keys and authority. Whoever opens it closes it. */
export async function workerClient(
  registry: TestRegistry,
  address: string,
  { tenant = "acme", roles = ["operator"] }: TestCaller,
): Promise<InferenceClient> {
  const token = await registry.token({ subject: "tester", tenant, roles });
  const ca = await readFile(await ensureDevAuthority(registry.dataDir));
  return new InferenceClient({ address, token, tls: { ca, serverName: "localhost" } });
}

/** Wait for what workers do by themselves, beside serving: vectors can be published afterwards. */
export async function modelRegistered(registry: TestRegistry): Promise<void> {
  const models = await registry.client(ModelService, { tenant: PLATFORM_TENANT });
  await until(async () => (await models.listModels({})).models.length > 0, "the model is registered");
}
