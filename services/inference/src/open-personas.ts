import { join } from "node:path";
import type { ModelManifest } from "@persona-mesh/model";
import { type Logger, type Metrics, openClientTls, requireConfig } from "@persona-mesh/service";
import { type WorkerValues, workerNameOf } from "./options.ts";
import type { PersonaCatalog } from "./personas/persona-catalog.ts";
import { PersonaStore } from "./personas/persona-store.ts";
import { registerModel } from "./registry/register-model.ts";
import { RegistryPersonas } from "./registry/registry-personas.ts";

/** Where personas come from, opened. */
export interface OpenPersonas {
  readonly catalog: PersonaCatalog;
  /** Resolves when calls may be let in; undefined where they may at once. */
  readonly ready: Promise<void> | undefined;
  /** How things stand with the registry; undefined where there is none. */
  readonly source: Pick<RegistryPersonas, "state"> | undefined;
}

/** Name of the worker's service in the mesh, as its certificate says. */
export const SERVICE_NAME = "inference";

const BYTES_PER_MEGABYTE = 1_000_000;

/**
 * From the registry where one is configured, else from a folder. What is opened is closed with `resources`.
 *
 * @throws ServiceError CONFIG_INVALID
 */
export async function openPersonas(
  values: WorkerValues,
  manifest: ModelManifest,
  { meter }: Pick<Metrics, "meter">,
  log: Logger,
  resources: AsyncDisposableStack,
): Promise<OpenPersonas> {
  const { registryAddress } = values;
  if (registryAddress === undefined) return openFolder(values, manifest, log, resources);
  const tls = await openClientTls(values, SERVICE_NAME, log);
  requireConfig(
    tls !== undefined,
    "registryAddress",
    "the registry knows workers by their certificates: set tlsCertFile and tlsKeyFile, or devTls in development",
  );
  resources.defer(() => tls.close());
  const target = { address: registryAddress, tls, trustDomain: values.trustDomain, meter };
  const { modelChecksum, spec, tokenizerDigest } = manifest;
  const { hidden: hiddenSize, layers, vocabulary: vocabularySize, architecture } = spec;
  const facts = { modelChecksum, tokenizerDigest, architecture, layers, hiddenSize, vocabularySize };
  let registration: Promise<boolean> = Promise.resolve(false);
  const register = async (before: Promise<boolean>) => (await before) || registerModel(target, facts, log);
  const personas = resources.use(
    await RegistryPersonas.open(
      {
        ...target,
        worker: workerNameOf(values),
        cacheFolder: join(values.dataDir, "registry"),
        cacheBytes: values.registryCacheMegabytes * BYTES_PER_MEGABYTE,
        onConnected: () => {
          registration = register(registration);
        },
      },
      { modelChecksum, hidden: spec.hidden, layers: spec.layers, tableRows: values.tableRows - 1 },
      log,
    ),
  );
  return { catalog: personas.catalog, ready: personas.ready, source: personas };
}

async function openFolder(
  values: WorkerValues,
  { modelChecksum, spec }: ModelManifest,
  log: Logger,
  resources: AsyncDisposableStack,
): Promise<OpenPersonas> {
  const catalog = resources.use(
    await PersonaStore.open(
      values.personasDir ?? join(values.dataDir, "personas"),
      { modelChecksum, hidden: spec.hidden, layers: spec.layers },
      {
        onLoaded: (tenant, { personas: loaded, active }) =>
          log.info({ tenant, personas: loaded.size, active: active?.name ?? null }, "personas in force"),
        onRefused: (tenant, error) =>
          log.error({ tenant, err: error }, "personas refused; the last good ones stay in force"),
        onUnreadable: (error) => log.error({ err: error }, "personasDir cannot be read; all personas stay as they are"),
      },
    ),
  );
  return { catalog, ready: undefined, source: undefined };
}
