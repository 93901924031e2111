import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { InferenceClient } from "@persona-mesh/client";
import { ServiceProcess } from "@persona-mesh/local";
import type { GetModelResponse } from "@persona-mesh/protocol";
import { ensureDevKeys, PLATFORM_TENANT, signDevToken } from "@persona-mesh/service";
import { randomVersion } from "../mesh/random-version.ts";

const MAIN = fileURLToPath(new URL("../../../services/inference/src/main.ts", import.meta.url));

export interface WorkerSettings {
  /** Its own folder. */
  readonly directory: string;
  /** Of the model package. */
  readonly model: string;
  readonly tenants: readonly string[];
  readonly personasPerTenant: number;
  /** Options as on the command line. */
  readonly flags: Readonly<Record<string, string>>;
}

/** A worker in a process of its own whose tenants have personas from files. */
export class ServedWorker implements AsyncDisposable {
  readonly process: ServiceProcess;
  readonly model: GetModelResponse;
  readonly #settings: WorkerSettings;

  static async start(settings: WorkerSettings): Promise<ServedWorker> {
    const { directory, model, flags } = settings;
    await mkdir(join(directory, "personas"), { recursive: true });
    const worker = await ServiceProcess.start({
      name: "inference",
      main: MAIN,
      flags: {
        "data-dir": directory,
        "personas-dir": join(directory, "personas"),
        "grpc-port": "0",
        "management-port": "0",
        "dev-tls": "false",
        model,
        ...flags,
      },
    });
    try {
      using client = new InferenceClient({
        address: worker.address,
        token: await tokenOf(settings, settings.tenants[0] ?? "nobody"),
      });
      const served = new ServedWorker(worker, await client.getModel(), settings);
      for (const tenant of settings.tenants) await served.#writePersonas(tenant);
      return served;
    } catch (error) {
      await worker.stop();
      throw error;
    }
  }

  private constructor(process: ServiceProcess, model: GetModelResponse, settings: WorkerSettings) {
    this.process = process;
    this.model = model;
    this.#settings = settings;
  }

  /** Of an operator. */
  token(tenant: string): Promise<string> {
    return tokenOf(this.#settings, tenant);
  }

  /** Of a service of the platform: captures, and personas in the request. */
  async serviceToken(): Promise<string> {
    const keys = await ensureDevKeys(this.#settings.directory);
    return signDevToken(keys, { subject: "bench", tenant: PLATFORM_TENANT, roles: ["service"] });
  }

  personas(tenant: string): string[] {
    const { personasPerTenant } = this.#settings;
    return Array.from({ length: personasPerTenant }, (_, index) => `tenants/${tenant}/personas/persona-${index}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.process.stop();
  }

  async #writePersonas(tenant: string): Promise<void> {
    const { directory, personasPerTenant, tenants } = this.#settings;
    const { modelChecksum, graphDigest, hiddenSize, layers: layerCount } = this.model;
    const folder = join(directory, "personas", tenant);
    await mkdir(folder);
    const layers = Array.from({ length: Math.min(4, layerCount) }, (_, i) => ((layerCount - 4) >> 1) + i);
    const personas = await Promise.all(
      Array.from({ length: personasPerTenant }, async (_, index) => {
        const file = `persona-${index}.safetensors`;
        const seed = tenants.indexOf(tenant) * personasPerTenant + index + 1;
        const shape = { modelChecksum, graphDigest, hiddenSize, layerCount, layers };
        await writeFile(join(folder, file), randomVersion(shape, `persona-${index}`, seed));
        return { name: `persona-${index}`, terms: [{ vector: file, alpha: 0.1 }] };
      }),
    );
    await writeFile(join(folder, "personas.json"), JSON.stringify({ personas }));
  }
}

async function tokenOf({ directory }: WorkerSettings, tenant: string): Promise<string> {
  return signDevToken(await ensureDevKeys(directory), { subject: "bench", tenant, roles: ["operator"] });
}
