import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { credentials } from "@grpc/grpc-js";
import { InferenceService } from "@persona-mesh/protocol";
import { onTestFinished } from "vitest";
import type { RoleName } from "../auth/caller.ts";
import { type DevKeys, ensureDevKeys, signDevToken } from "../auth/dev-keys.ts";
import { loadConfig } from "../config/load.ts";
import { withDefaults } from "../config/option.ts";
import { SERVICE_OPTIONS, type ServiceValues } from "../config/service-options.ts";
import { type Client, type ClientOptions, createClient } from "../grpc/client.ts";
import type { ServiceImplementation } from "../grpc/implementation.ts";
import { createLogger, type Logger } from "../log.ts";
import { bindService, type RunningServer, type ServerOptions, startServer } from "../server/server.ts";

/** A real server on free ports of this machine with the real inference contract and handlers of the test's own. */
export interface TestServer {
  readonly server: RunningServer;
  readonly keys: DevKeys;
  readonly dataDir: string;
  /** What was logged, line by line. */
  readonly logs: readonly Record<string, unknown>[];
  token(claims?: Partial<Parameters<typeof signDevToken>[1]>): Promise<string>;
  client(options?: TestClientOptions): Promise<Client<typeof InferenceService>>;
  close(): Promise<void>;
}

interface TestClientOptions extends ClientOptions {
  /** @default ["operator"] */
  readonly roles?: readonly RoleName[];
  /** @default the server's own */
  readonly address?: string;
}

/** For one test, at whose end it is closed. */
export async function startTestServer(...options: Parameters<typeof openTestServer>): Promise<TestServer> {
  const mesh = await openTestServer(...options);
  onTestFinished(mesh.close);
  return mesh;
}

/** For several tests; whoever opens it closes it. */
export async function openTestServer(
  handlers: Partial<ServiceImplementation<typeof InferenceService>> = {},
  overrides: Partial<ServiceValues> = {},
  options: Partial<ServerOptions> = {},
): Promise<TestServer> {
  const dataDir = await mkdtemp(join(tmpdir(), "persona-service-"));
  const keys = await ensureDevKeys(dataDir);
  const { logs, log } = captureLogs();
  const { values: config } = loadConfig(
    withDefaults(SERVICE_OPTIONS, {
      dataDir,
      grpcPort: 0,
      managementPort: 0,
      drainSeconds: 5,
      devTls: false,
      ...overrides,
    }),
  );
  const implementation: ServiceImplementation<typeof InferenceService> = {
    generate: notCalled,
    score: notCalled,
    captureActivations: notCalled,
    getModel: async () => ({ modelChecksum: "test" }),
    listLoadedPersonas: notCalled,
    ...handlers,
  };
  const server = await startServer({
    services: [bindService(InferenceService, implementation)],
    config,
    log,
    ...options,
  });
  const clients: Client<typeof InferenceService>[] = [];
  const token: TestServer["token"] = (claims) =>
    signDevToken(keys, { subject: "tester", tenant: "acme", roles: ["operator"], ...claims });
  return {
    server,
    keys,
    dataDir,
    logs,
    token,
    client: async ({ roles, address = server.address, ...clientOptions } = {}) => {
      const given = clientOptions.token ?? (await token(roles === undefined ? {} : { roles }));
      const client = createClient(InferenceService, address, credentials.createInsecure(), {
        ...clientOptions,
        token: given,
      });
      clients.push(client);
      return client;
    },
    close: async () => {
      for (const client of clients) client.close();
      await server.kill();
      await rm(dataDir, { recursive: true, force: true });
    },
  };
}

export function captureLogs(): { logs: Record<string, unknown>[]; log: Logger } {
  const logs: Record<string, unknown>[] = [];
  const log = createLogger("test", "debug", { write: (line) => logs.push(JSON.parse(line)) });
  return { logs, log };
}

/** Wait for a condition that other tasks bring about. @throws Error after twenty seconds: process starts are slow on a busy machine */
export async function until(condition: () => boolean, what: string): Promise<void> {
  for (const end = Date.now() + 20_000; !condition(); ) {
    if (Date.now() > end) throw new Error(`never happened: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

function notCalled(): never {
  throw new Error("a handler was called that this test does not expect");
}
