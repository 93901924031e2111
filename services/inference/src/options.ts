import { hostname } from "node:os";
import { option, requireConfig, SERVICE_OPTIONS, type Values, withDefaults } from "@persona-mesh/service";
import { z } from "zod";

/** More positions than any model has; the model's own bound is checked when it is known. */
const MAX_CONTEXT = 16_777_216;

/**
 * Positions of a slot where nothing else is asked for: models of 128k tokens and more would take a machine's memory for
 * contexts that few requests fill.
 */
export const DEFAULT_CONTEXT = 8192;

/** As a name of a folder too. */
const WORKER_NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/;

const count = (max: number) => z.int().min(1).max(max);

/** What the worker can be told, beside what every service can. */
export const WORKER_OPTIONS = {
  ...withDefaults(SERVICE_OPTIONS, { grpcPort: 7400, managementPort: 7401, devTls: true }),
  model: option(z.string().min(1).optional(), {
    default: undefined,
    doc: "Folder of the model package, or the name of a model in `models`. Unset: the starter model, imported into dataDir at the first start.",
  }),
  models: option(z.string().min(1).optional(), {
    default: undefined,
    doc: "Folder of models by name, as `persona model list` shows them. Unset: persona-mesh/models in the user's data folder.",
  }),
  personasDir: option(z.string().min(1).optional(), {
    default: undefined,
    doc: "For development without a registry: folder of the tenants' personas, TENANT/personas.json with its vector files. Unset: dataDir/personas.",
  }),
  registryAddress: option(z.string().min(1).max(512).optional(), {
    default: undefined,
    doc: "Registry that the personas come from, as HOST:PORT or any target that gRPC resolves; reached with this service's own certificate. Needed in production.",
  }),
  workerName: option(z.string().regex(WORKER_NAME, "letters, digits, '.', '_' and '-', at most 128").optional(), {
    default: undefined,
    doc: "Stable name of this worker at the registry, and of its cache. Unset: the machine's name, with the gRPC port.",
  }),
  registryCacheMegabytes: option(count(1_048_576), {
    default: 1024,
    unit: "MB",
    doc: "Versions that are kept in dataDir/registry for a start without the registry. What is served should fit.",
  }),
  guardBaseline: option(z.string().min(1).optional(), {
    default: undefined,
    doc: "What unsteered replies of the model are like, as `persona model baseline` measures it. Unset: guard-baseline.json in the model's package; without one the guard watches repetition alone.",
  }),
  slots: option(count(1024), {
    default: 16,
    doc: "Requests that run at once. Each takes a full context of KV cache; the log says how much.",
  }),
  context: option(count(MAX_CONTEXT).optional(), {
    default: undefined,
    unit: "tokens",
    doc: `Positions of a slot, prompt and reply together; at most the model's. Unset: the model's, at most ${DEFAULT_CONTEXT}.`,
  }),
  tableRows: option(count(1_000_000), {
    default: 1024,
    doc: "Rows of the steering table. A resident persona takes one for each layer that it steers.",
  }),
  chunkTokens: option(count(8192).optional(), {
    default: undefined,
    unit: "tokens",
    doc: "Prompt tokens per step: smaller lets running streams wait less for a long prompt, larger reads prompts faster. Unset: measured at the start, see `maxStallMillis`. Replies do not depend on it.",
  }),
  maxStallMillis: option(count(60_000), {
    default: 100,
    unit: "ms",
    doc: "Where `chunkTokens` is unset: the largest power of two from 16 to 512 whose chunk takes no longer at the end of the context. A running stream waits for one chunk and one step between two tokens.",
  }),
  prefixCacheMegabytes: option(z.int().min(0).max(1_048_576).optional(), {
    default: undefined,
    unit: "MB",
    doc: "Keys and values of prompts that are kept for later ones of the same tenant that begin alike; 0 keeps none. Unset: as much as the slots take, at most 1024 and half of the memory that is left.",
  }),
  swapMegabytes: option(z.int().min(0).max(1_048_576).optional(), {
    default: undefined,
    unit: "MB",
    doc: "Keys and values of replies that gave their slots up to a tenant below its share, until they go on; 0: none does. Unset: half of what the slots take, at most 1024 and a quarter of the memory that is left.",
  }),
  queueCapacity: option(count(100_000), {
    default: 256,
    doc: "Requests that may wait for a slot; further ones are refused with QUEUE_FULL.",
  }),
  threads: option(count(1024).optional(), {
    default: undefined,
    doc: "Threads that share one operator. Unset: one per physical core.",
  }),
  spinning: option(z.boolean(), {
    default: true,
    doc: "Threads look for work for a moment before they sleep: faster, unless other processes want the same cores.",
  }),
};

export type WorkerValues = Values<typeof WORKER_OPTIONS>;

/** What must hold between options. @throws ServiceError CONFIG_INVALID */
export function checkWorkerConfig({ registryAddress, personasDir, environment }: WorkerValues): void {
  requireConfig(
    registryAddress === undefined || personasDir === undefined,
    "personasDir",
    "personas come from one place: set registryAddress or personasDir",
  );
  requireConfig(
    registryAddress !== undefined || environment === "development",
    "registryAddress",
    "production takes its personas from the registry: set registryAddress",
  );
}

/** The name of this worker at the registry: the same after every restart. */
export function workerNameOf({ workerName, grpcPort }: Pick<WorkerValues, "workerName" | "grpcPort">): string {
  if (workerName !== undefined) return workerName;
  const machine = hostname()
    .replaceAll(/[^A-Za-z0-9._-]/g, "-")
    .slice(0, 100);
  return grpcPort === 0 ? `worker-${machine}` : `worker-${machine}-${grpcPort}`;
}
