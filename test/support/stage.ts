import type { InferenceClient } from "@persona-mesh/client";
import type { WorkerValues } from "../../services/inference/src/options.ts";
import { collect } from "./failure.ts";
import { type TenantOptions, type TestPersona, writeTenant } from "./personas.ts";
import { askServedModel, type ServedModel } from "./served-model.ts";
import { openTestWorker, type TestWorker } from "./test-worker.ts";
import { until } from "./until.ts";

/** A worker with the personas of one tenant, and its callers. */
export interface Stage {
  readonly mesh: TestWorker;
  readonly served: ServedModel;
  /** An operator of acme. */
  readonly client: InferenceClient;
  /** Of acme too, with the role service. */
  readonly service: InferenceClient;
  /** Replace acme's personas, and wait until they are in force. */
  cast(personas: readonly TestPersona[], options?: TenantOptions): Promise<void>;
}

export async function openStage(
  overrides: Partial<WorkerValues>,
  personas: readonly TestPersona[] = [],
): Promise<Stage> {
  const mesh = await openTestWorker(overrides);
  const client = await mesh.client();
  const service = await mesh.client({ roles: ["service"] });
  const served = await askServedModel(service);
  const names = async () =>
    (await collect(client.listLoadedPersonas())).map(({ proof }) => proof?.name.split("/").at(-1));
  const cast: Stage["cast"] = async (next, options) => {
    const loads = () => mesh.log().filter(({ msg, tenant }) => msg === "personas in force" && tenant === "acme").length;
    const before = loads();
    await writeTenant(mesh.personasDir, "acme", served, next, options);
    const wanted = next.map(({ name }) => name).sort();
    await until(async () => loads() > before && (await names()).join() === wanted.join(), "the personas are in force");
  };
  if (personas.length > 0) await cast(personas);
  return { mesh, served, client, service, cast };
}
