import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DistributionService, TenantService, VectorService } from "@persona-mesh/protocol/registry";
import {
  bindService,
  createLogger,
  loadConfig,
  SERVICE_OPTIONS,
  type ServiceImplementation,
  startServer,
  withDefaults,
} from "@persona-mesh/service";

/** Answers of a test; a call without one is a defect of the test. */
export interface RegistryScript {
  tenants?: Partial<ServiceImplementation<typeof TenantService>>;
  vectors?: Partial<ServiceImplementation<typeof VectorService>>;
  distribution?: Partial<ServiceImplementation<typeof DistributionService>>;
}

/** A real server with the real contract, over TLS as a development mesh serves. */
export interface ScriptedRegistry extends AsyncDisposable {
  readonly address: string;
  /** Holds the development keys and authority. */
  readonly dataDir: string;
}

export async function startScriptedRegistry(script: RegistryScript, { devTls = true } = {}): Promise<ScriptedRegistry> {
  const dataDir = await mkdtemp(join(tmpdir(), "persona-scripted-"));
  const unscripted = (): never => {
    throw new Error("the test has no answer for this call");
  };
  const whole = <T extends object>(methods: readonly { localName: string }[], given: object = {}) =>
    ({ ...Object.fromEntries(methods.map(({ localName }) => [localName, unscripted])), ...given }) as T;
  const server = await startServer({
    services: [
      bindService(TenantService, whole(TenantService.methods, script.tenants)),
      bindService(VectorService, whole(VectorService.methods, script.vectors)),
      bindService(DistributionService, whole(DistributionService.methods, script.distribution)),
    ],
    config: loadConfig(withDefaults(SERVICE_OPTIONS, { dataDir, grpcPort: 0, managementPort: 0, devTls })).values,
    log: createLogger("scripted-registry", "silent"),
  });
  return {
    address: server.address,
    dataDir,
    [Symbol.asyncDispose]: async () => {
      await server.kill();
      await rm(dataDir, { recursive: true, force: true });
    },
  };
}
