import { option, SERVICE_OPTIONS, type Values, withDefaults } from "@persona-mesh/service";
import { z } from "zod";

const count = (max: number) => z.int().min(1).max(max);

/** What the worker can be told, beside what every service can. */
export const WORKER_OPTIONS = {
  ...withDefaults(SERVICE_OPTIONS, { grpcPort: 7400, managementPort: 7401 }),
  model: option(z.string().min(1).optional(), {
    default: undefined,
    doc: "Folder of the model package. Unset: the starter model, imported into dataDir at the first start.",
  }),
  personasDir: option(z.string().min(1).optional(), {
    default: undefined,
    doc: "Folder of the tenants' personas: TENANT/personas.json with its vector files. Unset: dataDir/personas.",
  }),
  slots: option(count(1024), {
    default: 16,
    doc: "Requests that run at once. Each takes a full context of KV cache; the log says how much.",
  }),
  tableRows: option(count(1_000_000), {
    default: 1024,
    doc: "Rows of the steering table. A resident persona takes one for each layer that it steers.",
  }),
  chunkTokens: option(count(8192), {
    default: 128,
    unit: "tokens",
    doc: "Prompt tokens per step: smaller lets running streams wait less for a long prompt, larger reads prompts faster.",
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
    default: false,
    doc: "Idle threads burn their core between operators: a little faster alone, ruinous beside other processes.",
  }),
};

export type WorkerValues = Values<typeof WORKER_OPTIONS>;
