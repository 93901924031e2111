import { fileURLToPath } from "node:url";
import { ServiceProcess } from "./service-process.ts";

export { ServiceProcess } from "./service-process.ts";

const REGISTRY = fileURLToPath(new URL("../../../services/vector-registry/src/main.ts", import.meta.url));
const WORKER = fileURLToPath(new URL("../../../services/inference/src/main.ts", import.meta.url));

export interface LocalMeshOptions {
  /** Database, keys, certificates and caches; the mesh goes on from what it finds there. */
  readonly dataDir: string;
  /** Folder of a model package, or a model's name. @default the starter model */
  readonly model?: string;
  /** @default 1 */
  readonly workers?: number;
  /** Of the registry's gRPC port; workers take the next hundred's. 0 takes free ones. @default 0 */
  readonly registryPort?: number;
  /** @default 0 */
  readonly workerPort?: number;
  /** Further options of every registry and of every worker, as on their command lines. */
  readonly registryFlags?: Readonly<Record<string, string>>;
  readonly workerFlags?: Readonly<Record<string, string>>;
  /** Gets every line of every log. */
  readonly onLine?: (service: string, line: string) => void;
}

/**
 * The mesh on one machine: a registry with a PostgreSQL of its own, and workers that follow it. The same programs with the
 * same security as in production, with a certificate authority made on the spot.
 */
export class LocalMesh implements AsyncDisposable {
  readonly registry: ServiceProcess;
  readonly workers: readonly ServiceProcess[];

  /** @throws Error with the end of a service's log when it does not come up */
  static async start(options: LocalMeshOptions): Promise<LocalMesh> {
    const {
      dataDir,
      model,
      workers = 1,
      registryPort = 0,
      workerPort = 0,
      registryFlags,
      workerFlags,
      onLine,
    } = options;
    await using started = new AsyncDisposableStack();
    const start = async (name: string, main: string, flags: Readonly<Record<string, string>>) =>
      started.use(
        await ServiceProcess.start({
          name,
          main,
          flags: { "data-dir": dataDir, "dev-tls": "true", ...flags },
          ...(onLine === undefined ? {} : { onLine: (line: string) => onLine(name, line) }),
        }),
      );
    const registry = await start("vector-registry", REGISTRY, { ...portFlags(registryPort), ...registryFlags });
    const running: ServiceProcess[] = [];
    for (let index = 0; index < workers; index++) {
      running.push(
        await start(`inference-${index}`, WORKER, {
          ...portFlags(workerPort === 0 ? 0 : workerPort + 10 * index),
          "registry-address": registry.address,
          "worker-name": `worker-${index}`,
          ...(model === undefined ? {} : { model }),
          ...workerFlags,
        }),
      );
    }
    started.move();
    return new LocalMesh(registry, running);
  }

  private constructor(registry: ServiceProcess, workers: readonly ServiceProcess[]) {
    this.registry = registry;
    this.workers = workers;
  }

  get services(): readonly ServiceProcess[] {
    return [this.registry, ...this.workers];
  }

  /** Workers first: they tell the registry what they have to the end. @returns how each ended, as {@link services} */
  async stop(): Promise<readonly (number | string)[]> {
    const workers = await Promise.all(this.workers.map((worker) => worker.stop()));
    return [await this.registry.stop(), ...workers];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }
}

/** The management port follows the gRPC port. */
function portFlags(port: number): Record<string, string> {
  return { "grpc-port": String(port), "management-port": port === 0 ? "0" : String(port + 1) };
}
